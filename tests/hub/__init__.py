"""A Hugging Face Hub on the loopback: real clients run against it, no test needs the network."""

from .server import TOKEN, USER, LoopbackHub


__all__ = ["TOKEN", "USER", "LoopbackHub"]
