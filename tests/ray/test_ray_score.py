"""`nimdrum ray-score` on a cluster of real nodes: rows from files, through engines, into files, whatever dies."""

import csv
import json
import os
import signal
from pathlib import Path

import pytest
from fake_nim.config import FakeNimConfig
from fake_nim.image import build_image
from fake_nim.run import Running, read_lines
from pyarrow import Table, parquet
from pyarrow import csv as arrow_csv
from ray_world import RayWorld, asked, engines, ray_processes, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]

ROWS = int(os.environ.get("NIMDRUM_RAY_ROWS", "2000"))
FILES = 4
EXTERNAL = ("--set", "engine=external")
NODES = 3


def write_rows(folder: Path, rows: int, files: int = FILES) -> list[str]:
    """Parquet files with so many rows together, and all prompts; every tenth is the same question."""
    folder.mkdir()
    prompts = [f"question {number}" if number % 10 else "the same question" for number in range(rows)]
    for file in range(files):
        part = range(file, rows, files)
        columns = {"number": list(part), "promptText": [prompts[number] for number in part]}
        parquet.write_table(Table.from_pydict(columns), folder / f"{file}.parquet", row_group_size=1000)
    return prompts


def done(target: Path) -> list[str]:
    """The ids of the rows that checkpoints stand for."""
    paths = [
        path for path in target.parent.glob(f"{target.name}.checkpoint/*/*.parquet") if ".pending" not in path.name
    ]
    return [row for path in paths for row in parquet.read_table(path).column(0).to_pylist()]


def in_flight(engine: Running) -> float:
    return engine.metric("num_requests_running") + engine.metric("num_requests_waiting")


def test_a_node_and_the_driver_are_killed(ray: RayWorld, tmp_path: Path) -> None:
    """A node dies in the middle of a run and the run goes on; the driver dies, and the same command goes on without
    asking for what is kept: in the end each row is there once, with its own answer."""
    source, target, log = tmp_path / "rows", tmp_path / "answers", tmp_path / "log"
    prompts = write_rows(source, ROWS)
    block = max(50, ROWS // 100)
    options = (source, target, *EXTERNAL, "--min-actors", NODES, "--max-actors", NODES, "--block-rows", block)
    with engines(tmp_path, NODES, max_num_seqs=max(16, ROWS // 800), prefill_sec=1.0) as running:
        nodes = [ray.add_node_for(engine, f"node{number}") for number, engine in enumerate(running)]
        driver = ray.start(*options, log=log)
        try:
            wait_for(lambda: len(done(target)) >= ROWS // 6 or driver.poll() is not None, "a sixth is kept")
            assert driver.poll() is None, log.read_text()[-3000:]
            # Ray Data waits for no actor: one that starts late has been given no rows yet.
            wait_for(
                lambda: all(asked([engine]) for engine in running) or driver.poll() is not None,
                "each node's actor uses its own engine",
            )
            assert driver.poll() is None, log.read_text()[-3000:]
            ray.kill_node(nodes[1])
            before = len(done(target))
            wait_for(lambda: len(done(target)) >= before + ROWS // 6 or driver.poll() is not None, "it goes on")
            assert driver.poll() is None, log.read_text()[-3000:]
        finally:
            driver.send_signal(signal.SIGKILL)
            driver.wait(30)
        wait_for(lambda: not ray_processes(), "Ray has ended what the driver left")
        wait_for(lambda: not any(map(in_flight, running)), "the engines have put down what it asked last")
        kept, before = len(done(target)), len(asked(running))
        assert ray.score(*options, log=log) == 0, log.read_text()[-3000:]
        fresh = len(asked(running)) - before
    answers = parquet.read_table(target).to_pylist()
    assert sorted(row["number"] for row in answers) == list(range(ROWS))
    assert all(row["promptText"] == prompts[row["number"]] for row in answers)
    assert all(row["Predictions"] == f"echo: {row['promptText']}" and not row["row_error"] for row in answers)
    assert fresh <= ROWS - kept, "what is kept is not asked again"
    print(f"{ROWS} rows: {kept} kept from the first run, which asked {before}; the second asked {fresh}")


def test_other_settings_are_refused_and_errors_are_columns(ray: RayWorld, tmp_path: Path) -> None:
    """CSV with text as it was written, a poisoned row that costs itself, the same command again that asks nothing, and
    another temperature that is refused before any row is asked."""
    source, target, log = tmp_path / "rows.csv", tmp_path / "answers", tmp_path / "log"
    prompts = ["007", "NA", "", 'a "quoted", text', "two\nlines", "poison", "1e5", "2024-01-01 00:00:00"]
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("id", "promptText", "note"), *((f"0{i}", p, "n/a") for i, p in enumerate(prompts))]
        )
    options = (source, target, *EXTERNAL, "--key", "id", "--block-rows", 3, "--cpus", 1)
    with engines(tmp_path, 1, poison="poison") as running:
        ray.add_node_for(running[0], "node")
        assert ray.score(*options, log=log) == 3, log.read_text()[-3000:]
        assert "8 rows, 2 with a row error." in log.read_text()
        sent = asked(running)
        assert sorted(sent) == sorted(prompt for prompt in prompts if prompt)
        assert ray.score(*options, log=log) == 3, log.read_text()[-3000:]
        assert ray.score(*options, "--set", "temperature=0.5", log=log) == 1
        assert asked(running) == sent
    assert "holds answers that were made with other settings" in log.read_text()
    text = arrow_csv.ConvertOptions(column_types={"id": "string", "promptText": "string", "Predictions": "string"})
    lines = arrow_csv.ParseOptions(newlines_in_values=True)
    rows = [
        row
        for path in target.iterdir()
        for row in arrow_csv.read_csv(path, parse_options=lines, convert_options=text).to_pylist()
    ]
    by_id = {row["id"]: row for row in rows}
    assert len(rows) == len(prompts)
    assert [by_id[f"0{i}"]["promptText"] for i in range(len(prompts))] == prompts
    assert by_id["00"]["Predictions"] == "echo: 007"
    assert by_id["02"]["row_error"].startswith("empty_prompt")
    assert by_id["05"]["row_error"].startswith("refused")


def test_the_embedded_engine_answers_100_rows(ray: RayWorld, tmp_path: Path) -> None:
    """JSON Lines through llama.cpp, on this machine only, with a Ray that the command starts itself; two actors share
    the engine, and nothing of either is left."""
    source, target, log = tmp_path / "rows.jsonl", tmp_path / "answers", tmp_path / "log"
    source.write_text("".join(json.dumps({"id": i, "promptText": f"Name animal {i}."}) + "\n" for i in range(100)))
    options = ("--set", "engine=llamacpp", "--set", "max_tokens=2", "--key", "id", "--block-rows", 25)
    code = ray.score(source, target, *options, "--min-actors", 2, "-v", log=log, alone=True)
    assert code == 0, log.read_text()[-3000:]
    rows = [json.loads(line) for path in target.iterdir() for line in path.read_text().splitlines()]
    assert sorted(row["id"] for row in rows) == list(range(100))
    assert all(row["Predictions"] and row["completion_tokens"] <= 2 for row in rows)
    assert log.read_text().count("engine.running") == 1


def test_actors_on_one_gpu_share_an_engine_and_others_have_their_own(ray: RayWorld, tmp_path: Path) -> None:
    """Of a node with two GPUs four actors take half a one each: two NIMs are started, each with a GPU and ports of its
    own, and the answers of all rows come from both."""
    source, target, log, records = tmp_path / "rows", tmp_path / "answers", tmp_path / "log", tmp_path / "record"
    write_rows(source, 800)
    switches = {"prefill_sec": 2.0, "max_num_seqs": 32, "record_requests": True, "record_dir": str(records)}
    build_image(tmp_path / "image", FakeNimConfig(line="2.x", **switches))
    cache = tmp_path / "cache"
    cache.mkdir()
    ray.add_node("node", gpus=2, NIMDRUM_IMAGE_ROOT=str(tmp_path / "image"), NIM_CACHE_PATH=str(cache))
    options = ("--set", "engine=nim", "--gpus", 0.5, "--cpus", 0.25, "--min-actors", 4, "--block-rows", 50)
    assert ray.score(source, target, *options, "-v", log=log) == 0, log.read_text()[-3000:]
    assert parquet.read_table(target).num_rows == 800
    environs = [start["env"] for start in read_lines(records / "starts.jsonl")]
    kinds = {(environ["CUDA_VISIBLE_DEVICES"], environ.get("NIM_BACKEND_PORT")) for environ in environs}
    assert kinds == {("0", None), ("1", "8002")}
    assert len(environs) < 4, "one for each GPU; a third only where an actor came when the others had gone"


def test_the_engine_outlives_the_actor_that_started_it(ray: RayWorld, tmp_path: Path) -> None:
    """The pool shrinks: the first actor goes, which Ray would let its child processes feel, and the second still
    answers, by the same life of the engine. A batch comes back whole, whatever pandas type it has."""
    import pandas
    import ray as ray_core

    from nimdrum.tools.ray_score.pipeline import WORKER_ENV
    from nimdrum.tools.ray_score.scorer import Scorer

    records = tmp_path / "record"
    build_image(tmp_path / "image", FakeNimConfig(line="2.x", record_dir=str(records)))
    cache = tmp_path / "cache"
    cache.mkdir()
    ray.add_node("node", NIMDRUM_IMAGE_ROOT=str(tmp_path / "image"), NIM_CACHE_PATH=str(cache))
    batch = pandas.DataFrame({"promptText": ["a", "b"], "n": [1.5, None], "row_error": ["old", "old"]}, index=[7, 7])
    ray_core.init(address=ray.cluster.address, log_to_driver=False)
    try:
        actor = ray_core.remote(Scorer).options(num_cpus=1, runtime_env={"env_vars": WORKER_ENV})
        first, second = (actor.remote({"engine": "nim"}) for _ in range(2))
        answers = [ray_core.get(one.__call__.remote(batch), timeout=120) for one in (first, second)]
        del first
        wait_for(lambda: len(ray_processes("ray::Scorer")) == 1, "the first actor is gone")
        answers.append(ray_core.get(second.__call__.remote(batch), timeout=120))
        del second
        wait_for(lambda: not ray_processes("ray::Scorer"), "the second one too")
    finally:
        ray_core.shutdown()
    assert len(read_lines(records / "starts.jsonl")) == 1
    for answer in answers:
        assert list(answer["Predictions"]) == ["echo: a", "echo: b"]
        assert list(answer["row_error"]) == ["", ""]
        assert list(answer.index) == [7, 7]
        assert answer["completion_tokens"].dtype == "Int64"
