"""The package behind an executable reading of *Very Deep Convolutional Networks* (arXiv 1409.1556).

The way of the data: ``configs`` (Table 1 as data) -> ``model`` builds it, ``arithmetic`` reasons
about it without building it -> ``data`` feeds -> ``train`` -> ``evaluate`` -> recorded results ->
chapters and ledger. No import runs back up this line.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "CONFIGS": "configs",
    "Config": "configs",
    "count_parameters": "arithmetic",
    "count_macs": "arithmetic",
    "receptive_field": "arithmetic",
    "trace": "tracing",
    "build": "model",
    "to_dense": "dense",
    "Claim": "book.claims",
    "ClaimError": "book.claims",
    "claims": "book.claims",
    "tables": "paper",
    "nets_before_vgg": "paper",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: ``import vggbook`` costs next to nothing."""
    if name not in _HOME:
        offered = ", ".join(__all__)
        raise AttributeError(f"module 'vggbook' has no attribute {name!r}; it offers {offered}")
    value = getattr(import_module(f"vggbook.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
