"""Which failures are tried again, after how long, and what is told of them."""

import time
from pathlib import Path
from threading import Timer

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from hf_contrastive.hub import failures, repositories
from hf_contrastive.hub.command import NOT_PUSHED
from hf_contrastive.hub.failures import Patience, brief, is_passing, retrying, shown, without_secrets
from hf_contrastive.hub.repositories import Repository
from hf_contrastive.training import pushing


def answered(status: int, message: str = "no", **headers: str) -> HfHubHTTPError:
    request = httpx2.Request("POST", "http://127.0.0.1/api")
    return HfHubHTTPError(message, response=httpx2.Response(status, headers=headers, request=request))


def caused(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize("status", [408, 412, 429, 500, 502, 503, 504])
def test_a_hub_that_is_busy_or_out_of_order_is_asked_again(status: int):
    assert is_passing(answered(status))
    assert is_passing(caused(RuntimeError("Error while uploading"), answered(status)))


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 507])
def test_a_refusal_is_not(status: int):
    assert not is_passing(answered(status))
    assert not is_passing(caused(RuntimeError("Error while uploading"), answered(status)))


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (httpx2.ConnectError("refused"), True),
        (httpx2.RemoteProtocolError("cut"), True),
        (httpx2.ReadTimeout("late"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OfflineModeIsEnabled("offline"), False),
        (ValueError("wrong"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_connections_are_tried_again_and_mistakes_are_not(error: Exception, passes: bool):
    assert is_passing(error) is passes


class Flaky:
    def __init__(self, *errors: Exception) -> None:
        self.errors, self.told = list(errors), []

    def __call__(self, again: bool) -> str:
        self.told.append(again)
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(failures.time, "sleep", seconds.append)
    return seconds


def test_each_wait_is_longer(slept: list[float]):
    attempt = Flaky(*[answered(503)] * 5)
    assert retrying(attempt) == "done"
    assert slept == [1, 2, 4, 8, 16]
    assert attempt.told == [False] + [True] * 5


def test_after_the_last_attempt_the_failure_is_raised(slept: list[float]):
    with pytest.raises(HfHubHTTPError):
        retrying(Flaky(*[answered(503)] * 6))
    assert len(slept) == 5


def test_a_refusal_is_raised_at_once(slept: list[float]):
    with pytest.raises(HfHubHTTPError):
        retrying(Flaky(answered(403)))
    assert slept == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "86400"}, 300),
        ({"RateLimit": '"api";r=0;t=55'}, 55),
        ({"RateLimit": '"api";r=3;t=55'}, 1),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1),
    ],
)
def test_the_hub_says_how_long_to_wait(slept: list[float], headers: dict[str, str], seconds: float):
    assert retrying(Flaky(answered(429, **headers))) == "done"
    assert slept == [seconds]


def test_the_table_of_the_readme_has_these_times():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for words in (
        f"{repositories.LONGEST_SILENCE:g} s without a sign",
        f"{len(failures.DELAYS)} times over {sum(failures.DELAYS):g} s",
        f"{failures.LONGEST_DELAY / 60:g} minutes at most",
        # Counted in test_repositories.py, less the first attempt.
        f"{6 * 6 - 1} times over 169 s",
        f"has {pushing.PATIENCE:g} s, after SIGTERM {pushing.PATIENCE_OF_TERMINATED:g} s",
        f"exits with code {NOT_PUSHED}",
    ):
        assert words in readme


# ---- What is told ----


def test_a_failure_is_told_with_its_cause_in_one_line():
    text = brief(caused(RuntimeError("Error while\n uploading 'a'"), answered(403, "full")))
    assert text.startswith("RuntimeError: Error while uploading 'a'; HfHubHTTPError: full")
    assert "storage" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token my-token is bad", "token hf_*** is bad"),
        ("Bearer hf_abcdefghijklmnopqrstuvwxyzABCDEFGH", "Bearer hf_***"),
        ("for url 'https://s3.com/a?X-Amz-Signature=abc&b=1'", "for url 'https://s3.com/a?***'"),
        ("see https://huggingface.co/docs/hub", "see https://huggingface.co/docs/hub"),
        ("hf_contrastive", "hf_contrastive"),
        ("api_org_abcdefghijklmnopqrstuvwxyz", "api_org_***"),
        ("xhf_abcdefghijklmnopqrstuvwxyz", "xhf_***"),
        ("https://me:secret@hf.co/a", "https://***@hf.co/a"),
        ("https://hf.co/a@b", "https://hf.co/a@b"),
    ],
)
def test_no_secret_is_told(text: str, shown: str):
    assert without_secrets(text, "my-token") == shown


def test_words_of_a_cause_are_said_once():
    assert (
        brief(caused(answered(503, "Server error for x; busy"), ValueError("Server error for x"))).count("error") == 1
    )


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_a_failure_with_a_secret_behind_it_is_the_cause_of_nothing(link: str):
    error, inner = RuntimeError("outer"), RuntimeError("middle")
    inner.__context__ = ValueError("Bearer my-token")
    setattr(error, link, inner)
    assert shown(error, "my-token") is None
    assert shown(error, "another") is error


def test_who_stops_is_not_kept_waiting(slept: list[float]):
    (patience := Patience()).end()
    with pytest.raises(HfHubHTTPError):
        retrying(Flaky(answered(503)), patience)
    assert slept == []


def test_no_attempt_is_made_after_patience_is_over():
    attempt, start = Flaky(*[answered(503, **{"Retry-After": "60"})] * 9), time.monotonic()
    with pytest.raises(HfHubHTTPError):
        retrying(attempt, Patience(59))
    assert attempt.told == [False]
    assert time.monotonic() - start < 10


def test_patience_ends_at_the_first_of_its_limits():
    patience = Patience(100)
    assert 99 < patience.left <= 100
    patience.limit(1000)
    assert patience.left <= 100
    patience.limit(10)
    assert 9 < patience.left <= 10
    patience.end()
    assert patience.left == 0


def test_a_hub_that_repeats_a_token_while_it_is_busy_does_not_get_it_printed(
    slept: list[float], caplog: pytest.LogCaptureFixture
):
    """Of whatever form: not all tokens look like one."""
    assert retrying(Flaky(answered(503, "no right for my-token")), token="my-token") == "done"
    assert "no right for hf_***" in caplog.text
    assert "my-token" not in caplog.text + repr(Repository(name="me/a", token="my-token"))


def test_a_wait_is_broken_off():
    patience = Patience()
    Timer(0.05, patience.end).start()
    start = time.monotonic()
    with pytest.raises(HfHubHTTPError):
        retrying(Flaky(answered(503, **{"Retry-After": "60"})), patience)
    assert time.monotonic() - start < 10
