"""What the real vLLM's metrics mean under load, and what our window makes of them: eight slots, and more rows than those."""

from vllm_world import SLOTS, Engine, Scoring, frame_of

from nimdrum.engines import nim
from nimdrum.engines.work import Work
from nimdrum.scoring import traffic


def test_the_window_finds_the_slots(engine: Engine) -> None:
    """No more than the slots run, the rest waits, the counter only grows, and the window ends below where it began."""
    model = engine.model(max_tokens=16, temperature=1)
    batch = Scoring(frame_of([f"Write a line about the number {i}." for i in range(64)]), model)
    batch.start()
    looks: list[Work] = []
    while batch.is_alive():
        looks.append(engine.work())
        batch.join(0.3)
    assert set(batch.result()["row_error"]) == {""}
    seen = [look for look in looks if look.running is not None and look.progress is not None]
    assert len(seen) == len(looks)
    assert max(look.running or 0 for look in seen) == SLOTS
    assert max(look.waiting or 0 for look in seen) > 0
    progress = [look.progress or 0 for look in seen]
    assert progress == sorted(progress)
    assert progress[-1] > progress[0]
    path = str(model.attachment.run_dir.path)
    window = next(shared.window for (_, name, *_), shared in traffic._traffic.items() if name == path)
    assert window.is_sighted
    assert SLOTS <= window.size < nim.KIND.bounds.start


def test_each_choice_runs_for_itself(engine: Engine) -> None:
    """A request with n 3 is three that run: so the fake NIM counts them too. Who hangs up takes all three away."""
    with engine.in_flight(n=3):
        engine.wait_for_work(lambda work: work.running == 3)
    engine.wait_for_work(lambda work: work.running == 0)


def test_who_leaves_the_queue_frees_it(engine: Engine) -> None:
    """A request that waits is forgotten when its caller goes, and those that run go on."""
    with engine.in_flight(n=SLOTS):
        engine.wait_for_work(lambda work: work.running == SLOTS)
        with engine.in_flight():
            engine.wait_for_work(lambda work: work.waiting == 1)
        engine.wait_for_work(lambda work: work.waiting == 0 and work.running == SLOTS)
    engine.wait_for_work(lambda work: work.running == 0)
