"""Everything up to the progress is finished, and nothing that is finished is left behind it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mafalda.webhooks.progress import Progress


def test_the_first_unfinished_event_holds_it() -> None:
    progress = Progress(10)
    assert progress.seq == 10
    for seq in (12, 15, 19):
        progress.begin(seq)
    assert progress.seq == 11
    progress.finish(15)
    assert progress.seq == 11
    progress.finish(12)
    assert progress.seq == 18
    progress.finish(19)
    assert progress.seq == 19
    progress.passed(40)
    assert progress.seq == 40


@given(st.lists(st.integers(1, 1000), unique=True, min_size=1).map(sorted), st.randoms(use_true_random=False))
def test_in_whatever_order_they_finish(seqs: list[int], rng: st.DataObject) -> None:
    progress, left = Progress(0), list(seqs)
    for seq in seqs:
        progress.begin(seq)
    rng.shuffle(order := list(seqs))  # type: ignore[attr-defined]
    before = progress.seq
    for seq in order:
        left.remove(seq)
        progress.finish(seq)
        assert before <= progress.seq
        assert progress.seq == (left[0] - 1 if left else seqs[-1])
        before = progress.seq
