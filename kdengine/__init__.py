"""The engine of KD Explorer: trains networks by knowledge distillation, one subprocess per run.

Light rooms, free of torch: ``errors home spec events rundir status runner datasets cli``.
Heavy rooms: ``check worker train evaluate teachers devices losses data models methods``.
Reads / writes: nothing by itself; importing it loads no torch.
"""

__version__ = "0.1.0"
