"""`bb plan` and `bb demo plans`, as a user types them."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bb_ir.params import ParameterSet
from bb_ir.plan import Plan, chunk_digest, digest_text, from_json
from bb_plans.store import Store
from bytesandbrains._files import CannotWrite
from bytesandbrains.cli import main
from bytesandbrains.plans import cache_plan, tier_files

PNG = b"\x89PNG\r\n\x1a\n"


def bb(*words, code=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


def told(*words, code=0):
    return json.loads(bb(*words, "--json", code=code))


@pytest.fixture
def folders(tmp_path):
    """Return two versions: one tensor changed a little, one the same, one new, a file gone."""
    rng = np.random.default_rng(0)
    w = {name: rng.standard_normal((128, 128)).astype(np.float16) for name in "ab"}
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    (old / "w.safetensors").write_bytes(ParameterSet.from_tensors(w).image)
    (old / "gone.txt").write_text("gone")
    w["b"] = np.where(rng.random((128, 128)) < 0.03, w["b"] * np.float16(1.5), w["b"])
    w["c"] = rng.standard_normal(64).astype(np.float32)
    (new / "w.safetensors").write_bytes(ParameterSet.from_tensors(w).image)
    return old, new


@pytest.fixture
def store(folders, tmp_path):
    """Return a store whose current version is the old one."""
    bb("plan", "swap", "none", folders[0], "--bundle", tmp_path / "first")
    bb("plan", "apply", tmp_path / "first", "--store", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def bundle(folders, tmp_path):
    bb("plan", "swap", *folders, "--bundle", tmp_path / "bundle", "--link", 50)
    return tmp_path / "bundle"


def same(a, b):
    names = sorted(file.name for file in a.iterdir())
    assert names == sorted(file.name for file in b.iterdir())
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


def test_swap_from_folder_to_folder(folders, store, bundle, tmp_path):
    done = told("plan", "apply", bundle, "--store", store, "--rebuild", tmp_path / "out")

    assert done["epoch"] == 2
    assert same(folders[1], tmp_path / "out")


def test_plan_in_a_bundle_may_be_named_itself(store, bundle):
    assert told("plan", "apply", bundle / "plan.json", "--store", store)["epoch"] == 2


def test_what_changed_little_is_sent_as_a_difference(folders, tmp_path):
    facts = told("plan", "swap", *folders, "--bundle", tmp_path / "b", "--link", 50)["swap"]

    assert facts["codecs"].get("sparse", 0) + facts["codecs"].get("xorz", 0) >= 1
    assert facts["read_bytes"] < facts["moved_bytes"] / 3
    assert facts["shared"]["nbytes"] >= 128 * 128 * 2
    assert facts["deletes"]["chunks"] == 1


def test_rollback_serves_the_version_before(folders, store, bundle, tmp_path):
    first = told("plan", "rollback", store, "--dry-run")["rollback"]
    assert first["serves"] is None
    bb("plan", "apply", bundle, "--store", store)

    would = told("plan", "rollback", store, "--dry-run")["rollback"]
    did = told("plan", "rollback", store)["rollback"]

    assert would["serves"] == did["serves"] != did["left"]
    assert "no version is kept" in bb("plan", "rollback", store, code=3)


def test_rollback_is_no_dead_end(folders, store, bundle):
    bb("plan", "apply", bundle, "--store", store)
    bb("plan", "rollback", store)

    done = told("plan", "apply", bundle, "--store", store)

    assert done["epoch"] == 3
    assert done["nbytes"] == done["there_bytes"] > 0
    again = told("plan", "apply", bundle, "--store", store)
    assert (again["root"], again["epoch"]) == (done["root"], 3)  # it serves that already
    assert "moved 0 bytes" in bb("plan", "apply", bundle, "--store", store)
    assert told("plan", "rollback", store)["rollback"]["left"] == done["root"]


def test_what_a_bundle_would_read_is_known_before(folders, tmp_path):
    words = ("plan", "swap", *folders, "--link", 50, "--bundle")
    would = told(*words, tmp_path / "b", "--dry-run")["swap"]
    assert not (tmp_path / "b").exists()

    did = told(*words, tmp_path / "b")["swap"]

    assert (would["read_bytes"], would["codecs"]) == (did["read_bytes"], did["codecs"])


def test_root_of_a_manifest_is_what_is_committed(folders, tmp_path):
    root = told("plan", "manifest", folders[0])["manifest"]["root"]
    bb("plan", "swap", "none", folders[0], "--bundle", tmp_path / "first")

    assert told("plan", "apply", tmp_path / "first", "--store", tmp_path / "s")["root"] == root


@pytest.mark.parametrize(
    "words",
    [
        ("--plot", "p.gif"),
        ("--plot", "none/p.png"),
        ("--report", "none/r.json"),
        ("--rebuild", "."),
        ("--rebuild", "none/x"),
        ("--store", ""),
    ],
)
def test_outcomes_that_cannot_be_written_are_refused_before_anything_moves(
    bundle, store, words, monkeypatch
):
    monkeypatch.chdir(bundle)
    bb("plan", "apply", bundle, "--store", store, *words, code=2)

    assert told("plan", "rollback", store, "--dry-run")["rollback"]["epoch"] == 0
    with Store(store, writable=False) as held:
        assert held.fence == 1


def test_store_may_be_an_empty_folder_and_no_other(folders, bundle, tmp_path):
    bb("plan", "swap", "none", folders[0], "--bundle", tmp_path / "first")
    (tmp_path / "fresh").mkdir()
    assert "no store" in bb("plan", "apply", bundle, "--store", tmp_path / "new", code=3)
    assert list((tmp_path / "fresh").iterdir()) == []
    bb("plan", "apply", tmp_path / "first", "--store", tmp_path / "fresh")

    for wrong in (folders[0], folders[0] / "gone.txt"):
        error = told("plan", "apply", bundle, "--store", wrong, code=3)["errors"][0]
        assert error["code"] == "NotAStore"
        assert "gone.txt" in error["found"]


@pytest.mark.parametrize("words", [("manifest", "empty"), ("swap", "none", "empty", "--dry-run")])
def test_folder_without_files_is_no_version(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()

    assert "there are no files in 'empty'" in bb("plan", *words, code=3)


def test_bundle_has_a_folder_of_its_own(folders, tmp_path):
    words = ("plan", "swap", "none", folders[0], "--bundle")
    for wrong in (folders[1], folders[0] / "gone.txt", tmp_path / "no" / "such"):
        bb(*words, wrong, code=2)
    assert [file.name for file in folders[1].iterdir()] == ["w.safetensors"]

    for _ in range(2):  # one that is there is written again
        bb(*words, tmp_path / "b")


def test_blank_names_are_refused(folders, tmp_path):
    for words in (("", folders[1], "--dry-run"), (*folders, "--out", " ")):
        assert "it is blank" in bb("plan", "swap", *words, code=2)


def test_planner_of_another_kind_is_refused(folders, trace):
    error = told("plan", "swap", *folders, "--dry-run", "--planner", "kvcache", code=3)
    assert "makes no plans of a swap" in error["errors"][0]["found"]
    error = told("plan", "cache", trace, "--dry-run", "--planner", "swap", code=3)["errors"][0]
    assert error["code"] == "UnplannableRequest"


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_bundle_that_is_not_finished_leaves_nothing(folders, tmp_path, stop, monkeypatch):
    def full(_):
        raise stop

    monkeypatch.setattr("bytesandbrains.plans._making.os.fsync", full)
    code = 3 if isinstance(stop, OSError) else 130
    text = bb("plan", "swap", *folders, "--bundle", tmp_path / "b", code=code)

    assert list((tmp_path / "b").iterdir()) == []
    assert ("CannotWrite" in text) == isinstance(stop, OSError)


def test_interrupted_rebuild_can_be_done_again(store, bundle, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("bb_plans._folders._copy", stop)
        words = ("plan", "apply", bundle, "--store", store, "--rebuild", tmp_path / "out")
        assert "epoch 2" in bb(*words, code=130)  # told before what was interrupted
    assert not (tmp_path / "out").exists()
    bb(*words)

    assert (tmp_path / "out" / "w.safetensors").exists()


def test_names_in_any_script(folders, tmp_path):
    new = folders[1].rename(tmp_path / "modèle 模型 [red]x")
    bb("plan", "swap", "none", new, "--bundle", tmp_path / "bün del")

    assert "[red]x" in bb("plan", "show", tmp_path / "bün del", "--plot", tmp_path / "ü.png")
    bb(
        "plan",
        "apply",
        tmp_path / "bün del",
        "--store",
        tmp_path / "s",
        "--rebuild",
        tmp_path / "ж",
    )
    assert same(new, tmp_path / "ж")


def test_no_commit_stages_only(folders, store, bundle):
    staged = told("plan", "apply", bundle, "--store", store, "--no-commit")
    with Store(store) as held:
        assert held.current.epoch == held.fence == 1
        assert len(held.versions()) == 2  # prepared, which pruning knows of
    assert "staged" in bb("plan", "apply", bundle, "--store", store, "--no-commit")

    done = told("plan", "apply", bundle, "--store", store)
    assert (staged["epoch"], done["epoch"], done["root"]) == (0, 2, staged["root"])


def test_dry_run_changes_nothing(store, bundle, folders, tmp_path):
    before = sorted(str(file) for file in store.rglob("*"))

    assert "nothing was changed" in bb("plan", "apply", bundle, "--store", store, "--dry-run")
    assert sorted(str(file) for file in store.rglob("*")) == before
    bb("plan", "swap", *folders, "--dry-run")
    bb("plan", "manifest", folders[0], "--dry-run")
    assert not (folders[0] / "bb-manifest.json").exists()
    bb("plan", "apply", bundle, "--store", tmp_path / "none", "--dry-run", code=3)
    bb("plan", "apply", tmp_path / "first", "--store", tmp_path / "none", "--dry-run")
    assert not (tmp_path / "none").exists()


def test_flipped_byte_commits_nothing(store, bundle):
    spans = bytearray((bundle / "spans.bin").read_bytes())
    spans[len(spans) // 2] ^= 1
    (bundle / "spans.bin").write_bytes(spans)

    error = told("plan", "apply", bundle, "--store", store, code=1)["errors"][0]

    assert error["code"] == "PlanFailed"
    assert told("plan", "rollback", store, "--dry-run")["rollback"]["serves"] is None


def test_bundle_for_another_version_commits_nothing(bundle, tmp_path, folders):
    error = told("plan", "apply", bundle, "--store", tmp_path / "empty", code=3)["errors"][0]

    assert error["code"] == "InvalidPlan"
    assert "is not here" in error["found"]
    assert not (tmp_path / "empty").exists()


def test_failed_plan_goes_on_from_its_report(store, bundle, tmp_path):
    spans = (bundle / "spans.bin").read_bytes()
    last = from_json(Plan, (bundle / "plan.json").read_text()).swap.ops[-1].src_offset
    damaged = bytearray(spans)
    damaged[last] ^= 1
    (bundle / "spans.bin").write_bytes(damaged)
    report = tmp_path / "report.json"
    bb("plan", "apply", bundle, "--store", store, "--report", report, code=1)
    assert '"done"' in report.read_text()
    (bundle / "spans.bin").write_bytes(spans)

    done = told("plan", "apply", bundle, "--store", store, "--resume", report)

    assert done["epoch"] == 2


def test_manifest_is_what_swap_reads(folders, tmp_path):
    for folder in folders:
        facts = told("plan", "manifest", folder, "--version", folder.name)["manifest"]
        assert facts["root"].startswith("sha256:")
    assert facts["tensors"] == 3

    bb("plan", "swap", *folders, "--out", tmp_path / "a.json")
    bb("plan", "swap", *(f / "bb-manifest.json" for f in folders), "--out", tmp_path / "b.json")

    a, b = (from_json(Plan, (tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert a.swap.adds == b.swap.adds
    assert "needs the folder" in bb(
        "plan", "swap", "none", folders[1] / "bb-manifest.json", "--bundle", tmp_path / "x", code=2
    )


def test_plan_in_place_reads_the_new_files(folders, store, tmp_path):
    bb("plan", "swap", *folders, "--out", tmp_path / "plan.pb")

    error = told("plan", "apply", tmp_path / "plan.pb", "--store", store, code=3)["errors"][0]
    assert error["code"] == "PlanLacks"
    assert "--files FOLDER" in error["fix"]
    bb("plan", "apply", tmp_path / "plan.pb", "--store", store, "--files", folders[1])


def test_buckets_in_memory(folders, tmp_path):
    out = tmp_path / "plan.json"
    bb("plan", "swap", *folders, "--out", out, "--into", "device", "--bucket", 0.03)

    done = told("plan", "apply", out, "--files", folders[1])
    assert done["root"] is None
    assert done["nbytes"] > 0
    facts = told("plan", "swap", *folders, "--dry-run", "--into", "mem", "--bucket", 0.03)["swap"]
    assert facts["lanes"] > 1


def test_earlier_format(folders, tmp_path):
    out = tmp_path / "earlier.json"
    assert "add --into device" in bb("plan", "swap", *folders, "--out", out, "--earlier", code=2)
    bb("plan", "swap", *folders, "--out", out, "--earlier", "--into", "device")

    written = json.loads(out.read_text())
    assert list(written) == ["plan_id", "manifest_from", "manifest_to", "ops", "window"]
    facts = told("plan", "show", out)["plan"]
    assert (facts["kind"], facts["seconds"]) == ("swap", None)  # it has no digests of what arrives
    assert "not sound" in bb("plan", "show", out)
    error = told("plan", "show", out, "--plot", tmp_path / "p.png", code=3)["errors"][0]
    assert error["code"] == "InvalidPlan"


def test_verify_lists_everything(bundle, tmp_path):
    assert bb("plan", "verify", bundle, "--no-bytes").strip() == "sound"
    told_plan = json.loads((bundle / "plan.json").read_text())
    for op in told_plan["swap"]["ops"]:
        op["srcOffset"] = "1000000000"
    (tmp_path / "bad.json").write_text(json.dumps(told_plan))

    found = told("plan", "verify", tmp_path / "bad.json", code=3)
    assert not found["sound"]
    assert "envelope" in {one["rule"] for one in found["problems"]}
    assert "not sound" in bb("plan", "verify", tmp_path / "bad.json", code=3)


# --- bytes that verify compares


def flip(file, at):
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def op_of(bundle, codec):
    """Return number and contents of the first op with a codec, or without one."""
    ops = from_json(Plan, (bundle / "plan.json").read_text()).swap.ops
    return next((number, op) for number, op in enumerate(ops) if bool(op.codec) is codec)


def test_verify_compares_all_bytes_of_a_bundle(folders, store, bundle):
    ops = from_json(Plan, (bundle / "plan.json").read_text()).swap.ops
    differences = sum(bool(op.codec) for op in ops)
    told_bytes = told("plan", "verify", bundle, "--store", store)["bytes"]
    assert told_bytes == {
        "ops": len(ops), "nbytes": sum(op.length for op in ops), "left": {}, "damaged": [],
    }  # fmt: skip
    assert told("plan", "verify", bundle, "--files", folders[0])["bytes"] == told_bytes

    assert told("plan", "verify", bundle)["bytes"] == told_bytes  # by digests of the differences

    (bundle / "spans.json").unlink()
    alone = told("plan", "verify", bundle)
    assert alone["sound"]
    assert list(alone["bytes"]["left"].values()) == [differences]
    text = bb("plan", "verify", bundle)
    assert f"not compared: {differences} op" in text
    assert "on a version that is not here: --store or --files" in text
    assert text.endswith("sound\n")
    assert told("plan", "verify", bundle, "--no-bytes")["bytes"] is None
    bb("plan", "verify", bundle, "--no-bytes", "--store", store, code=2)


@pytest.mark.parametrize("codec", [False, True])
def test_verify_names_the_op_whose_bytes_are_damaged(store, bundle, codec):
    number, op = op_of(bundle, codec)
    size = op.encoded_length if codec else op.length
    flip(bundle / "spans.bin", op.src_offset + size - 1)
    if codec:  # so that what comes out is compared
        (bundle / "spans.json").unlink()

    found = told("plan", "verify", bundle, "--store", store, code=3)

    assert (found["sound"], found["problems"]) == (False, [])
    (damaged,) = found["bytes"]["damaged"]
    assert (damaged["code"], damaged["op"], damaged["place"]) == (
        "BytesDamaged", number, "mem://spans",
    )  # fmt: skip
    assert op.digest.value.hex() in damaged["expected"]
    text = bb("plan", "verify", bundle, "--store", store, code=3)
    assert f"error[BytesDamaged]: ops[{number}] reads 'mem://spans'" in text
    assert "not sound: 1 error" in text
    assert bb("plan", "verify", bundle, "--no-bytes").strip() == "sound"


def test_verify_finds_a_damaged_difference_without_the_old_version(bundle):
    number, op = op_of(bundle, codec=True)
    flip(bundle / "spans.bin", op.src_offset + op.encoded_length // 2)

    (damaged,) = told("plan", "verify", bundle / "plan.json", code=3)["bytes"]["damaged"]

    assert (damaged["op"], damaged["place"]) == (number, "mem://spans")


def test_verify_refuses_digests_that_cannot_be_read(bundle):
    for content in ("", "{}", '{"pieces": [[1]]}', '{"pieces": [[0, 1, "blake3:0"]]}', "[]"):
        (bundle / "spans.json").write_text(content)
        error = told("plan", "verify", bundle, code=3)["errors"][0]
        assert error["code"] == "BadPlanFile"
        assert "spans.json" in error["found"]


@pytest.mark.parametrize("digests", [True, False])
def test_verify_finds_a_bundle_that_is_cut_off_without_the_old_version(bundle, digests):
    if not digests:
        (bundle / "spans.json").unlink()
    spans = (bundle / "spans.bin").read_bytes()
    (bundle / "spans.bin").write_bytes(spans[:10])

    found = told("plan", "verify", bundle, code=3)["bytes"]

    ops = from_json(Plan, (bundle / "plan.json").read_text()).swap.ops
    wrong = {index for index, op in enumerate(ops) if op.src_offset + _reads(op) > 10}
    assert {one["op"] for one in found["damaged"]} == wrong
    (bundle / "spans.bin").unlink()
    assert "spans.bin" in bb("plan", "verify", bundle, code=3)


def _reads(op):
    return op.encoded_length if op.codec else op.length


def test_verify_blames_the_old_version_where_that_is_damaged(folders, bundle):
    _, op = op_of(bundle, codec=True)
    swap = from_json(Plan, (bundle / "plan.json").read_text()).swap
    base = next(one for one in swap.from_.files if chunk_digest(one) == op.src_digest)
    flip(folders[0] / base.path, base.offset)

    (damaged,) = told("plan", "verify", bundle, "--files", folders[0], code=3)["bytes"]["damaged"]

    assert damaged["place"] == f"cas://{digest_text(op.src_digest)}"
    assert digest_text(op.src_digest) in damaged["expected"]


def test_verify_reads_files_that_a_plan_reads(folders, tmp_path):
    bb("plan", "swap", *folders, "--out", tmp_path / "p.json")
    assert "from files: --files" in bb("plan", "verify", tmp_path / "p.json")
    assert told("plan", "verify", tmp_path / "p.json", "--files", folders[1])["sound"]
    (folders[1] / "w.safetensors").unlink()

    found = told("plan", "verify", tmp_path / "p.json", "--files", folders[1], code=3)["bytes"]

    assert found["ops"] == len(found["damaged"]) > 0
    assert "cannot be opened" in found["damaged"][0]["found"]


def test_verify_changes_nothing_and_needs_a_store_that_is_there(store, bundle, tmp_path):
    before = {str(file): file.stat().st_mtime_ns for file in store.rglob("*")}
    bb("plan", "verify", bundle, "--store", store)
    assert {str(file): file.stat().st_mtime_ns for file in store.rglob("*")} == before

    error = told("plan", "verify", bundle, "--store", tmp_path / "none", code=3)["errors"][0]

    assert error["code"] == "NotAStore"
    assert not (tmp_path / "none").exists()


def test_damaged_bundle_is_not_committed_to_a_fresh_store(folders, store, tmp_path):
    first, fresh = tmp_path / "first", tmp_path / "fresh"
    good = (first / "spans.bin").read_bytes()
    _, op = op_of(first, codec=False)
    flip(first / "spans.bin", op.src_offset)

    error = told("plan", "apply", first, "--store", fresh, code=1)["errors"][0]

    assert error["code"] == "PlanFailed"
    with Store(fresh, writable=False) as held:
        assert (held.current, held.kept, held.versions()) == (None, None, ())
        assert not held.has(op.digest)
    (first / "spans.bin").write_bytes(good)
    assert told("plan", "apply", first, "--store", fresh, "--rebuild", tmp_path / "o")["epoch"] == 1
    assert same(folders[0], tmp_path / "o")


# --- pictures


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_picture(bundle, store, tmp_path, kind):
    for words in (("show", bundle), ("apply", bundle, "--store", store)):
        bb("plan", *words, "--plot", tmp_path / f"p.{kind}")
        drawn = (tmp_path / f"p.{kind}").read_bytes()
        assert drawn.startswith(PNG) if kind == "png" else b"<svg" in drawn
        assert len(drawn) > 5000
    assert "name it .png or .svg" in bb("plan", "show", bundle, "--plot", "p.gif", code=2)


@pytest.mark.parametrize("command", ["show", "apply"])
def test_pictures_need_matplotlib(bundle, store, tmp_path, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    place = ("--store", store) if command == "apply" else ()

    (error,) = told(
        "plan", command, bundle, *place, "--plot", tmp_path / "p.png", code=2
    )["errors"]  # fmt: skip

    assert (error["code"], error["fix"]) == ("WrongUsage", 'pip install "bytesandbrains[demo]"')
    assert "matplotlib" in error["found"]
    with Store(store, writable=False) as held:
        assert held.current.epoch == 1


def test_suffixes_in_capitals_are_pictures_too(bundle, tmp_path):
    bb("plan", "show", bundle, "--plot", tmp_path / "P.PNG")

    assert (tmp_path / "P.PNG").read_bytes().startswith(PNG)


def test_folders_that_cannot_be_written_to_are_refused_before(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != tmp_path)

    assert "nothing can be written to folder" in bb(
        "plan", "show", bundle, "--plot", tmp_path / "p.png", code=2
    )


def test_show_lists_ops(bundle):
    text = bb("plan", "show", bundle, "--ops", 1)

    assert "cas://blake3:" in text
    assert "more; --ops lists more" in text


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"ops": 5}', "\x00\xff", '{"schemaVersion": 9}']
)
def test_what_is_no_plan_is_refused(tmp_path, content):
    file = tmp_path / "plan.json"
    file.write_text(content, encoding="latin-1")

    error = told("plan", "verify", file, code=3)

    assert error.get("errors", [{"code": ""}])[0]["code"] in {"BadPlanFile", "InvalidPlan", ""}
    assert "errors" in error or not error["sound"]


@pytest.mark.parametrize("words", [("verify", "none.json"), ("apply", "none"), ("show", "none")])
def test_missing_files_are_named(words):
    assert "none" in bb("plan", *words, code=3)


@pytest.mark.parametrize(
    ("word", "told"), [("rolback", "did you mean `bb plan rollback`?"), ("x", "it has manifest, ")]
)
def test_commands_that_are_not_there_name_those_that_are(word, told):
    assert told in bb("plan", word, code=2)


def test_resume_needs_a_report(store, bundle, tmp_path):
    (tmp_path / "r.json").write_text("{")

    (error,) = told(
        "plan", "apply", bundle, "--store", store, "--resume", tmp_path / "r.json", code=3
    )["errors"]  # fmt: skip

    assert error["code"] == "BadPlanFile"
    assert "r.json" in error["found"]


def test_swap_says_where_to_write(folders):
    assert "--out FILE or --bundle FOLDER" in bb("plan", "swap", *folders, code=2)


# --- caches


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    from bytesandbrains.plans import trace_source

    file = tmp_path_factory.mktemp("trace") / "trace.parquet"
    trace_source("trace").draw_trace(file, requests=300, seed=2)
    return file


def cached(trace, out, *more):
    sets = ("window_ms=20000", "layers=2", "page_bytes=4096", "slo_ms=60000")
    words = [word for one in sets for word in ("--trace-set", one)]
    return told("plan", "cache", trace, "--out", out, *words, "--set", "min_io_bytes=0", *more)


def test_cache_plan_of_a_trace(trace, tmp_path):
    facts = cached(trace, tmp_path / "a.json", "--tables", tmp_path / "tables")["cache"]
    assert facts["ops"] > 5
    again = told(
        "plan", "cache", tmp_path / "tables", "--out", tmp_path / "b.json",
        "--set", "min_io_bytes=0",
    )["cache"]  # fmt: skip

    assert again["plan_id"] == facts["plan_id"]
    assert (tmp_path / "tables" / "reduction.json").exists()
    assert "sound" in bb("plan", "verify", tmp_path / "a.json")


def test_cache_plan_is_carried_out_between_files(trace, tmp_path):
    cached(trace, tmp_path / "plan.json")
    plan = from_json(Plan, (tmp_path / "plan.json").read_text()).cache
    tiers = tmp_path / "tiers"
    for op in plan.ops:
        file = tiers / op.src.removeprefix("tier://")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("r+b" if file.exists() else "w+b") as opened:
            opened.seek(op.src_offset)
            opened.write(np.random.default_rng(op.src_offset).bytes(op.length))

    dry = bb("plan", "apply", tmp_path / "plan.json", "--tiers", tiers, "--dry-run")
    assert "more warnings" in dry
    said = bb("plan", "apply", tmp_path / "plan.json", "--tiers", tiers)
    assert "digest" not in said
    done = told("plan", "apply", tmp_path / "plan.json", "--tiers", tiers)

    left = done["left_to_the_engine"]
    for name in ("evict", "prefetch", "admission"):
        refs = getattr(plan, name)
        assert left[name]["runs"] == len(refs)
        assert left[name]["nbytes"] == sum(ref.page_count * ref.page_bytes for ref in refs)
    assert left["prefetch"]["pages"]
    assert f"{left['prefetch']['pages']:,} pages" in said.partition("left to the engine")[2]
    assert done["nbytes"] == sum(op.length for op in plan.ops)
    for op in plan.ops:
        sent, got = (
            (tiers / place.removeprefix("tier://")).read_bytes()[at : at + op.length]
            for place, at in ((op.src, op.src_offset), (op.dst, op.dst_offset))
        )
        equal = sent == got
        assert equal


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_tiers_without_room_are_refused_before_anything_moves(trace, tmp_path, monkeypatch, words):
    cached(trace, tmp_path / "plan.json")
    plan = from_json(Plan, (tmp_path / "plan.json").read_text()).cache
    most = sum(op.length for op in plan.ops)
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(
        "bytesandbrains.plans._caches.disk_usage", lambda _: usage(most, 1, most - 1)
    )

    (error,) = told(
        "plan", "apply", tmp_path / "plan.json", "--tiers", tmp_path / "t", *words, code=3
    )["errors"]  # fmt: skip

    assert error["code"] == "CannotWrite"
    assert f"{most:,} more bytes" in error["found"]
    assert not (tmp_path / "t").exists()


def test_tiers_that_are_no_files_are_named(trace, tmp_path):
    cached(trace, tmp_path / "plan.json")
    plan = from_json(Plan, (tmp_path / "plan.json").read_text()).cache
    tier = tmp_path / "t" / plan.ops[0].dst.removeprefix("tier://")
    tier.mkdir(parents=True)

    with pytest.raises(CannotWrite, match="Is a directory") as caught:
        tier_files(plan, tmp_path / "t")
    assert str(tier) in caught.value.found


def test_tiers_that_are_not_there_are_named(trace, tmp_path):
    cached(trace, tmp_path / "plan.json")

    error = told("plan", "apply", tmp_path / "plan.json", code=3)["errors"][0]
    assert (error["code"], error["fix"]) == ("PlanLacks", "give it with --tiers FOLDER")
    for words in ((), ("--dry-run",)):
        text = bb(
            "plan", "apply", tmp_path / "plan.json", "--tiers", tmp_path / "t", *words, code=3
        )
        assert "tier0" in text
    assert not (tmp_path / "t").exists()


def test_verify_lists_the_first_of_many(trace, tmp_path):
    cached(trace, tmp_path / "plan.json")
    count = len(told("plan", "verify", tmp_path / "plan.json")["problems"])
    assert count > 20

    text = bb("plan", "verify", tmp_path / "plan.json")

    assert text.count("warning  time") == 20
    assert f"and {count - 20} more" in text


def test_cache_plan_says_how_far_it_is(trace):
    steps = []

    made = cache_plan(trace, progress=steps.append)

    assert [step.partition(":")[0] for step in steps] == ["1 of 3", "2 of 3", "3 of 3"]
    assert re.search(r"planning for \d[\d,]* requests for pages", steps[1])
    assert f"sealing {len(made.cache.ops):,} moves" in steps[2]


def test_cache_plan_needs_a_trace(tmp_path):
    error = told("plan", "cache", tmp_path / "none", "--dry-run", code=3)["errors"][0]
    assert error["code"] == "BadPlanFile"
    assert "--out FILE" in bb("plan", "cache", "x", code=2)


def test_settings_are_checked(trace):
    for words in (("--set", "min_io=0"), ("--trace-set", "layer=1")):
        error = told("plan", "cache", trace, "--dry-run", *words, code=3)["errors"][0]
        assert error["code"] in {"ConfigError", "UnknownField"} or "Config" in error["code"]


# --- ranks

SPLIT = """\
world = 4
tensor_parallel = 2
[members]
a = 0
"[bc]" = 1
"""


@pytest.fixture
def split(tmp_path):
    (tmp_path / "split.toml").write_text(SPLIT)
    return tmp_path / "split.toml"


@pytest.mark.parametrize("kind", ["--out", "--bundle"])
def test_ranks_that_need_each_bucket(folders, split, tmp_path, kind):
    facts = told(
        "plan", "swap", "none", folders[1], kind, tmp_path / "made", "--groups", split,
        "--bucket", 0.01, "--plot", tmp_path / "p.png",
    )["swap"]["ranks"]  # fmt: skip

    assert facts["groups"] == {"0": [0, 1], "1": [2, 3]}
    assert [one["ranks"] for one in facts["buckets"]] == [[0, 1], [2, 3], [0, 1, 2, 3]]
    assert [one["nbytes"] for one in facts["buckets"][:2]] == [1 << 15, 1 << 15]
    rest = facts["buckets"][2]["nbytes"]  # a header and a small tensor, which share a bucket
    assert facts["rank_bytes"] == [(1 << 15) + rest] * 4
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)


def test_ranks_are_printed(folders, split):
    text = bb("plan", "swap", "none", folders[1], "--dry-run", "--groups", split, "--bucket", 0.01)

    assert re.search(r"bucket/0 +1 +32.0 KiB +0-1\n", text)
    assert re.search(r"\n0-3 +3\d.\d KiB\n", text)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("world = 6\ntensor_parallel = 4", "6 ranks in groups of 4"),
        ("wrold = 4", "'wrold' says nothing"),
        ("world = 'many'", "Expected `int`"),
        ("whole_groups = true\ntensor_parallel = 2\n[ranks]\nb = [0]", "a part of group 0"),
    ],
)
@pytest.mark.parametrize("kind", ["--out", "--bundle"])
def test_ranks_that_do_not_fit_leave_nothing(folders, tmp_path, content, found, kind):
    (tmp_path / "split.toml").write_text(content)

    (error,) = told(
        "plan", "swap", *folders, kind, tmp_path / "made", "--groups", tmp_path / "split.toml",
        "--bucket", 0.01, code=3,
    )["errors"]  # fmt: skip

    assert error["code"] == "RanksUnfit"
    assert found in error["found"]
    assert not (tmp_path / "made").is_file()
    assert not (tmp_path / "made").exists() or not [*(tmp_path / "made").iterdir()]


def test_picture_of_a_swap_is_that_of_its_ranks(folders, tmp_path):
    assert "add --groups" in bb(
        "plan", "swap", *folders, "--dry-run", "--plot", tmp_path / "p.png", code=2
    )


# --- the page


def test_commands_of_the_page_do_what_it_says(tmp_path, monkeypatch):
    page = Path(__file__).parents[3] / "docs/how-to/plans.md"
    monkeypatch.chdir(tmp_path)
    ran = []
    for language, block in re.findall(
        r"```(python|console)\n(.*?)```", page.read_text(), re.DOTALL
    ):
        if language == "python" and "bytesandbrains" not in block:  # which the docs' own test runs
            exec(block, {})  # noqa: S102  # a page of ours
        lines = block.splitlines() if language == "console" else []
        ran += [bb(*shlex.split(line.removeprefix("$ bb "))) for line in lines]

    text = "".join(ran)
    for shown in re.findall(r"```text\n(.*?)```", page.read_text(), re.DOTALL):
        assert shown in text
    assert same(tmp_path / "round-2", tmp_path / "files")
    assert (tmp_path / "cache.json").read_text() == (tmp_path / "again.json").read_text()


# --- the demo


def test_demo_removes_nothing_that_it_did_not_make(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mine.txt").write_text("mine")

    assert "'mine.txt', which no demo made" in bb("demo", "plans", "--out", tmp_path, code=3)
    assert (tmp_path / "cache" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("at", ["_flip", "_cache_figures", "_write_weights"])
def test_interrupted_demo_removes_what_it_worked_with(tmp_path, monkeypatch, at):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"bytesandbrains.demo.plans.PlansDemo.{at}", stop)

    text = bb("demo", "plans", "--out", out, "--megabytes", 1, "--requests", 300, code=130)

    names = {file.name for file in out.iterdir()}
    assert not names & {"swap", "cache"}
    assert (out / "mine.txt").read_text() == "mine"
    results = names - {"mine.txt"}
    assert all(name in text for name in results)
    assert ("no results" in text) is not bool(results)
    assert bool(results) is (at != "_write_weights")
    assert "interrupted" in text


def test_demo_on_a_full_disk_says_so(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bytesandbrains.demo.plans.PlansDemo._write_weights", full)

    assert "No space left" in bb("demo", "plans", "--out", tmp_path / "o", code=3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 us"),
        (1.23e-5, "12.3 us"),
        (0.0047, "4.70 ms"),
        (0.9999, "1,000 ms"),
        (75, "75.0 s"),
    ],
)
def test_times_are_written_for_people(seconds, text):
    from bytesandbrains.cli._sizes import span

    assert span(seconds) == text


def test_demo_of_plans(tmp_path):
    out = tmp_path / "out"
    figures = told("demo", "plans", "--out", out, "--megabytes", 1, "--requests", 300)

    for name in ("swap_plan", "cache_plan"):
        assert from_json(Plan, (out / f"{name}.json").read_text()).plan_id.startswith("sha256:")
        assert (out / f"{name}.png").read_bytes().startswith(PNG)
    assert figures["swap"]["sent_bytes"] < figures["swap"]["new_bytes"]
    assert (
        figures["cache"]["met"] + sum(figures["cache"]["rejected"].values())
        == (figures["cache"]["asked"])
    )
    text = bb("demo", "plans", "--out", out, "--megabytes", 1, "--requests", 300, "--quiet")
    assert "every digest right" in text
    assert "plans.json" in text
