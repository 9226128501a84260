"""Let each training of a process choose its own precision."""


def forget_precision() -> None:
    """Forget the precision of an earlier training in this process, which accelerate would keep for all that follow."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()
