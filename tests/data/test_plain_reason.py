"""What is said of an error quotes nothing that the library quoted."""

from data.plain_reason import plain_reason, plain_trace

QUOTED = "DOE^JANE"


def _fail() -> None:
    try:
        float(QUOTED)
    except ValueError as error:
        raise KeyError(f"no property\n  'aperio.Patient' = {QUOTED!r}") from error


def test_a_reason_is_one_line_without_what_is_quoted() -> None:
    said = f"bad value b'{QUOTED}' of \"{QUOTED}\"\n in <tag 270 {QUOTED}> at byte 12"
    assert plain_reason(ValueError(said)) == "bad value … of … in … at byte 12"


def test_a_trace_says_where_it_was_and_quotes_nothing() -> None:
    try:
        _fail()
    except KeyError as error:
        error.add_note("in the reading process:\n  File x, line 3")
        trace = plain_trace(error)
    assert QUOTED not in trace
    assert trace.index("ValueError: could not convert string to float: …") < trace.index("KeyError: ")
    assert "test_plain_reason.py" in trace and "in _fail" in trace and "in the reading process:" in trace
