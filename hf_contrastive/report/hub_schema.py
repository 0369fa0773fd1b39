"""What the Hub accepts in the metadata of a card, checked here before anything is uploaded."""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from hf_contrastive.report.model_index import index_faults, is_text


# https://huggingface.co/docs/hub/repositories-licenses
LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc
    cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
    cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl
    apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1 ncsa
    unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1
    llama3.2 llama3.3 llama4 grok2-community gemma unknown other
    """.split()  # noqa: SIM905
)
# https://github.com/huggingface/huggingface.js/blob/main/packages/tasks/src/pipelines.ts
PIPELINES = frozenset(
    """
    any-to-any audio-classification audio-text-to-text audio-to-audio automatic-speech-recognition depth-estimation
    document-question-answering feature-extraction fill-mask graph-ml image-classification image-feature-extraction
    image-segmentation image-text-to-image image-text-to-text image-text-to-video image-to-3d image-to-image
    image-to-text image-to-video
    keypoint-detection mask-generation multiple-choice object-detection other question-answering
    reinforcement-learning robotics sentence-similarity summarization table-question-answering table-to-text
    tabular-classification tabular-regression tabular-to-text text-classification text-generation text-ranking
    text-retrieval text-to-3d text-to-audio text-to-image text-to-speech text-to-video text2text-generation
    time-series-forecasting token-classification translation unconditional-image-generation video-classification
    video-text-to-text video-to-video visual-document-retrieval visual-question-answering voice-activity-detection
    zero-shot-classification zero-shot-image-classification zero-shot-object-detection
    """.split()  # noqa: SIM905
)
# https://huggingface.co/docs/hub/model-cards#specifying-a-base-model
RELATIONS = ("adapter", "finetune", "merge", "quantized")
LANGUAGE = re.compile(r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$|^code$|^multilingual$")
REVISION = re.compile(r"^[0-9a-f]{40}$")


def is_repo_id(name: object) -> bool:
    """Whether a text may be the id of a repository, `namespace/name` or `name`."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in `__all__`

    try:
        validate_repo_id(name)  # type: ignore[arg-type]
    except HFValidationError:
        return False
    return isinstance(name, str)


def metadata_faults(data: Mapping[Any, Any]) -> list[str]:
    """What the Hub would refuse or misread in a model card's metadata: a sentence for each fault, none if it is valid."""
    faults = [f"Keys of the metadata must be texts, but one is {key!r}." for key in data if not isinstance(key, str)]
    for key, (check, allowed) in _FIELDS.items():
        if key in data:
            many = key in _LISTS
            values = data[key] if isinstance(data[key], list) and many else [data[key]]
            for value in values:
                if not check(value):
                    # YAML reads `no`, Norwegian, as false: the type is part of the message.
                    hint = _hint(value, LICENSES if key == "license" else PIPELINES)
                    faults.append(f"`{key}` is {value!r}, but must be {allowed}.{hint}")
            if isinstance(data[key], list) and len(set(map(repr, values))) < len(values):
                faults.append(f"`{key}` names something twice: {data[key]!r}. Name each once.")
            if key in _LISTS_ONLY and not isinstance(data[key], list):
                faults.append(f"`{key}` is {data[key]!r}, but must be a list of {allowed}.")
    # The Hub takes a list of licences, too.
    chosen = data.get("license")
    for identifier in chosen if isinstance(chosen, list) and chosen else [chosen]:
        faults += check_licence(identifier, data.get("license_name"), data.get("license_link"))
    if "model-index" in data:
        faults += list(index_faults(data["model-index"]))
    return list(dict.fromkeys(faults))


def check_licence(identifier: object, name: object, link: object) -> list[str]:
    """Faults of a licence: an identifier that the Hub does not list, `other` without a name, a name without `other`."""
    if identifier is not None and not (isinstance(identifier, str) and identifier in LICENSES):
        return [
            f"`license` is {identifier!r}, but must be one of the Hub's identifiers, such as 'apache-2.0', 'mit' or "
            f"'cc-by-4.0', or 'other' with `license_name`.{_hint(identifier, LICENSES)}"
        ]
    if identifier == "other" and not name:
        return [
            "`license` is 'other', which needs `license_name`, an identifier of your own such as 'my-license-1.0'."
        ]
    if identifier != "other" and (name or link):
        return [f"`license_name` and `license_link` belong to `license: other`, but `license` is {identifier!r}."]
    return []


def _hint(value: object, known: frozenset[str]) -> str:
    near = get_close_matches(str(value).lower().replace(" ", "-"), known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "language": (
        lambda x: isinstance(x, str) and bool(LANGUAGE.match(x)),
        "an ISO 639 code such as 'en', 'code' or 'multilingual', in quotes where YAML reads it as something else",
    ),
    "library_name": (lambda x: is_text(x) and " " not in x, "the name of a library, such as 'transformers'"),
    "pipeline_tag": (lambda x: isinstance(x, str) and x in PIPELINES, "one of the Hub's tasks"),
    "tags": (is_text, "texts"),
    "base_model": (is_repo_id, "the id of a model on the Hub"),
    "base_model_relation": (lambda x: x in RELATIONS, f"one of {', '.join(RELATIONS)}"),
    "datasets": (is_repo_id, "the id of a dataset on the Hub"),
    "metrics": (is_text, "names of metrics"),
    "license_name": (is_text, "a text"),
    "license_link": (is_text, "a file of the repository or an address"),
}
_LISTS = {"language", "tags", "base_model", "datasets", "metrics"}
_LISTS_ONLY = {"tags"}
