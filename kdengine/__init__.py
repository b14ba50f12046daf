"""The engine of KD Explorer: trains networks by knowledge distillation, one subprocess per run.

Light rooms, free of torch: ``errors home spec events rundir status runner datasets cli classic``.
Heavy rooms: ``check worker train evaluate teachers devices losses data models methods``.
Also here: the six training functions of the source paper, ``kdengine.train_kd()`` and so on, loaded when they are asked for.
Reads / writes: nothing by itself; importing it loads no torch.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "train_base", "train_bss", "train_crd", "train_dml", "train_ft", "train_kd"]

if TYPE_CHECKING:
    from kdengine.classic import train_base, train_bss, train_crd, train_dml, train_ft, train_kd
else:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from kdengine import classic

        return getattr(classic, name)
