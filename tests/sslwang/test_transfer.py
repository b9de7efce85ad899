"""Transfer: the encoder of a run beside random weights, cell by cell; classes by name; the gate; and clear refusals."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pretrained_runs import make_run

from diagnose.diagnosis import Diagnosis, Tool
from diagnose.errors import DiagnoseError
from diagnose.gate import GateRefused
from diagnose.loads import recording
from sslwang.checkpoint import put_json
from sslwang.circumstances import fingerprint
from sslwang.data import imagewang
from sslwang.data.imagewang import IMAGEWANG_TITLES, Archive
from sslwang.data.labelled import Labelled, labelled, stratified
from sslwang.finetune import finetune, predict
from sslwang.models.encoder import make_encoder
from sslwang.models.weights import read_weights, save_weights
from sslwang.runs import ENCODER, MODEL, PretrainRun, open_run
from sslwang.scores import accuracy, interval, paired
from sslwang.transfer import (
    PAGE,
    PROTOCOLS,
    RESULT,
    Cells,
    Settings,
    finished_run,
    granted,
    inputs_of,
    loaded_from,
    markdown,
    plan,
    random_encoder,
    seeds_of,
    table,
    transfer,
    transfer_learner,
    weights_digest,
)

SHORT = {"sizes": (16,), "epochs": (1,), "seeds": (0, 1), "device": "cpu", "gate": "skip"}


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "pretrained" / "unmix" / "one")


@pytest.fixture(scope="module")
def digits():
    whole = labelled("digits")
    few = stratified(whole.train.labels, 0.1, 0)
    return replace(whole, train=whole.train.subset(few), valid=whole.valid.subset(range(60)))


def of_some(data, classes, valid, counts):
    """Some classes of a source, of which validation has some only, with a number of training images each."""
    place = [data.classes.index(c) for c in classes]
    keep = np.concatenate([np.flatnonzero(data.train.labels == p)[:n] for p, n in zip(place, counts)])
    shown = np.flatnonzero(np.isin(data.valid.labels, [data.classes.index(c) for c in valid]))
    number = {p: i for i, p in enumerate(place)}

    def relabelled(side):
        return replace(side, labels=np.array([number[int(label)] for label in side.labels]))

    return Labelled(
        data.source,
        tuple(classes),
        tuple(valid),
        relabelled(data.train.subset(keep)),
        relabelled(data.valid.subset(shown)),
        data.size,
        titles={classes[1]: "the springer"},
    )


# ---- what is loaded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "tensors"), [("group", 12), ("batch", 24)])
def test_the_tensors_are_counted_and_stand_in_the_learner(tmp_path, digits, norm, tensors):
    run = make_run(tmp_path / "run", norm=norm)
    with recording() as record:
        learner = transfer_learner(run, digits, size=16)
    encoder = run.encoder()
    assert str(loaded_from(run, encoder)) == (
        f"{tensors} of {tensors} tensors of the encoder loaded; head left behind: 6"
    )
    stands, kept = learner.model.encoder.state_dict(), read_weights(run.path / ENCODER)
    assert stands.keys() == kept.keys()
    assert all(torch.equal(stands[n], kept[n]) for n in kept)
    (load,) = record.loads(learner.model)
    assert not load.lost
    assert not load.missing
    assert load.arrived


def test_a_run_without_its_whole_network_tells_that(run):
    (run.path / MODEL).unlink()
    assert loaded_from(run, run.encoder()).left is None
    assert str(loaded_from(run, run.encoder())).endswith("the run keeps no head")


def test_last_and_best_are_two_encoders(run, digits):
    digests = {weights_digest(transfer_learner(run, digits, which).model.encoder) for which in ("last", "best")}
    assert len(digests) == 2
    assert weights_digest(run.encoder("best")) in digests


def test_the_head_has_an_output_for_every_class_of_training(run, digits):
    some = of_some(digits, ("2", "3", "5"), ("2", "5"), (5, 5, 5))
    learner = transfer_learner(run, some, size=16)
    assert learner.model.head.shape == (3,)
    assert learner.dls.vocab == ["2", "the springer", "5"]
    assert set(predict(learner).labels) == {0, 2}


def test_images_are_scaled_as_the_pretext_task_scaled_them(tmp_path, run, digits):
    raw = make_run(tmp_path / "raw", settings={"hardened": False})
    assert (inputs_of(run), inputs_of(raw)) == ("standardised", "normalised")
    for made in (run, raw):
        assert transfer_learner(made, digits, size=16).dls.train.dataset.inputs == inputs_of(made)


def test_random_weights_are_those_of_their_seed(run):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    one, two, other = (weights_digest(random_encoder(run.arch, run.norm, seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert one == two != other


# ---- cells -----------------------------------------------------------------------------------------------------------


def test_a_second_call_trains_nothing_and_says_the_same(run, digits, tmp_path):
    out = tmp_path / "out"
    first = transfer(run.path.parent.parent, digits, out, **SHORT)
    assert (first.trained, first.kept) == (6, 0)
    again = transfer(run, digits, out, **SHORT)
    assert (again.trained, again.kept) == (0, 6)
    assert again.rows == first.rows
    lost = out / first.cells[2]
    before = json.loads(lost.read_text())
    lost.unlink()
    (out / first.cells[3]).write_text("{half a fi")
    mended = transfer(run, digits, out, **SHORT)
    assert (mended.trained, mended.kept) == (2, 4)
    assert json.loads(lost.read_text())["scores"] == before["scores"], "equal seeds give equal bits"
    assert [r.scores for r in mended.rows] == [r.scores for r in first.rows]
    more = transfer(run, digits, out, **{**SHORT, "seeds": (0, 1, 2)})
    assert (more.trained, more.kept) == (3, 6)


def test_what_other_code_has_trained_is_trained_anew_unless_it_is_wanted(run, digits, tmp_path):
    out = tmp_path / "out"
    first = transfer(run, digits, out, **SHORT)
    path = out / first.cells[0]
    own = json.loads(path.read_text())
    other = {**own, "code": "0.1.0 of yesterday", "commit": "yesterday"}
    path.write_text(json.dumps(other))
    kept = transfer(run, digits, out, **SHORT, changed_code=True)
    assert (kept.trained, kept.kept) == (0, 6)
    assert any("made under 2 codes, versions or devices" in n and "yesterday" in n for n in kept.notes)
    again = transfer(run, digits, out, **SHORT)
    assert (again.trained, again.kept) == (1, 5)
    assert json.loads(path.read_text())["scores"] == own["scores"]
    assert not any("versions or devices" in n for n in again.notes)


def test_image_wang_is_read_from_the_archive_that_fits_each_size(run, tmp_path, monkeypatch):
    """Trees of 16 and of 40 px in place of the archives; images are enlarged at no size that there is a larger for."""
    small, large = (Archive(f"http://nowhere/{n}.tgz", 0, "", "", side) for n, side in (("w-20", 20), ("w-full", None)))
    trees = {a: coloured_tree(tmp_path / a.name, side=side) for a, side in ((small, 20), (large, 40))}
    monkeypatch.setattr(imagewang, "ARCHIVES", (small, large))
    read = []

    def root(archive):
        read.append(archive.name)
        return trees[archive]

    monkeypatch.setattr("sslwang.data.labelled.imagewang_root", root)
    given = {**SHORT, "sizes": (16, 20, 24, 32), "seeds": (0,)}
    result = transfer(run, "imagewang", tmp_path / "out", **given)
    assert read == ["w-20.tgz", "w-full.tgz"]
    keys = [json.loads((tmp_path / "out" / name).read_text())["key"] for name in result.cells]
    by_size = {size: {k["data"] for k in keys if k["size"] == size} for size in given["sizes"]}
    assert by_size[16] == by_size[20] != by_size[24] == by_size[32]
    assert all(len(digests) == 1 for digests in by_size.values())
    assert not any("enlarged" in note for note in result.notes)
    monkeypatch.setattr(imagewang, "ARCHIVES", (replace(small, side=None),))
    trees[imagewang.ARCHIVES[0]] = trees[small]
    enlarged = transfer(run, "imagewang", tmp_path / "out", **given)
    assert [n for n in enlarged.notes if "enlarged" in n] == [
        f"At {size} px the images were enlarged: the median of their shorter sides is 20 px." for size in (24, 32)
    ]


def test_a_cell_is_what_finetune_gives_and_the_table_what_the_cells_hold(run, digits, tmp_path):
    settings = Settings(fraction=0.5, unfreeze="gradual", balanced=False, bs=16, lr=1e-2)
    result = transfer(run, digits, tmp_path / "out", **SHORT, settings=settings)
    cells = [json.loads((tmp_path / "out" / name).read_text()) for name in result.cells]
    assert [c["key"]["start"] for c in cells] == ["pretrained", "random", "random"] * 2
    assert [c["key"]["unfreeze"] for c in cells] == ["gradual", "gradual", "all"] * 2
    assert {c["labels"] for c in cells} == {len(stratified(digits.train.labels, 0.5, 0))}
    for cell, encoder, unfreeze in zip(
        cells[3:],
        (run.encoder(), random_encoder(run.arch, run.norm, 1), random_encoder(run.arch, run.norm, 1)),
        ("gradual", "gradual", "all"),
    ):
        indices = stratified(digits.train.labels, 0.5, 1)
        said = finetune(encoder, digits, indices, epochs=1, seed=1, size=16, unfreeze=unfreeze, bs=16, lr=1e-2)
        assert cell["scores"]["accuracy"] == accuracy(said.probabilities, said.labels)
        assert np.sum(cell["confusion"]) == len(digits.valid)
    of = {s: [c["scores"]["accuracy"] for c in cells[i::3]] for i, s in enumerate(("pretrained", "random", "scratch"))}
    rows = {row.start: row for row in result.rows}
    assert {start: row.scores["accuracy"] for start, row in rows.items()} == {s: interval(v) for s, v in of.items()}
    assert rows["pretrained"].above["random"]["accuracy"] == paired(of["pretrained"], of["random"])
    assert rows["pretrained"].above["scratch"]["accuracy"] == paired(of["pretrained"], of["scratch"])
    assert not rows["random"].above
    record = json.loads((result.folder / RESULT).read_text())
    assert record["loaded"] == {"tensors": 12, "of": 12, "left": 6}
    assert record["rows"][0]["scores"]["accuracy"]["mean"] == pytest.approx(np.mean(of["pretrained"]))
    assert record["gate"] == [{"skipped": "--no-gate"}]
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["code"] == fingerprint()
    assert record["seconds"] == pytest.approx(sum(c["seconds"] for c in cells), abs=0.1)
    page = (result.folder / PAGE).read_text()
    assert page == markdown(result)
    head, body = table(result)
    assert len(body) == 5
    assert all(len(row) == len(head) for row in body)
    for row in body:
        assert f"| {' | '.join(row)} |" in page
    assert "50 % of the labels of each class" in page


def test_trained_whole_from_the_start_random_weights_are_one_start(run, digits, tmp_path):
    out = tmp_path / "out"
    transfer(run, digits, out, **SHORT)
    result = transfer(run, digits, out, **SHORT, settings=Settings(unfreeze="all"))
    assert [row.start for row in result.rows] == ["pretrained", "random"]
    assert (result.trained, result.kept) == (2, 2), "what was trained from scratch before is not trained again"


def test_random_weights_are_shared_by_runs_of_one_architecture_only(tmp_path, run, digits):
    out = tmp_path / "out"
    transfer(run, digits, out, **SHORT)
    other = make_run(tmp_path / "other", seed=20)
    assert transfer(other, digits, out, **SHORT).kept == 4
    batch = make_run(tmp_path / "batch", norm="batch")
    assert transfer(batch, digits, out, **SHORT).kept == 0


def test_the_name_of_a_cell_holds_all_that_its_scores_depend_on(tmp_path):
    common = {"arch": "small", "norm": "group", "source": "x/y", "device": "cpu"}
    cells = Cells(tmp_path, common, {32: "d", 64: "d"})
    cell = plan((32,), (5,), (0,), ("pretrained",))[0]
    settings = Settings()
    paths = {cells.path(cells.key(cell, settings, "w"))}
    for change in (
        *({"fraction": 0.1}, {"unfreeze": "none"}, {"balanced": False}, {"inputs": "normalised"}),
        *({"bs": 8}, {"lr": 1e-2}, {"wd": 0.1}, {"which": "best"}),
    ):
        paths.add(cells.path(cells.key(cell, replace(settings, **change), "w")))
    for change in ({"size": 64}, {"epochs": 20}, {"seed": 1}, {"start": "random"}):
        paths.add(cells.path(cells.key(replace(cell, **change), settings, "w")))
    paths.add(cells.path(cells.key(cell, settings, "other weights")))
    other = Cells(tmp_path, common, {32: "other"})
    paths.add(other.path(other.key(cell, settings, "w")))
    assert len(paths) == 15
    assert all(path.parent == tmp_path for path in paths)
    scratch = replace(cell, start="scratch")
    assert cells.key(scratch, settings, "w") == cells.key(scratch, settings, "other weights")


def test_the_protocol_of_image_wang():
    """Sizes and epochs of the leaderboard; five runs of 5 epochs, three of more (its README)."""
    sizes, epochs = PROTOCOLS["imagewang"]
    cells = plan(sizes, epochs, None, ("pretrained",))
    assert {(c.size, c.epochs) for c in cells} == {(s, e) for s in (128, 192, 256) for e in (5, 20, 80, 200)}
    assert len(cells) == 3 * (5 + 3 + 3 + 3)
    assert [seeds_of(e) for e in (5, 20)] == [(0, 1, 2, 3, 4), (0, 1, 2)]


def test_one_seed_has_no_interval_and_proves_nothing(run, digits, tmp_path):
    result = transfer(run, digits, tmp_path / "out", **{**SHORT, "seeds": (0,)})
    assert math.isnan(result.rows[0].scores["accuracy"].low)
    assert any("of one seed nothing follows" in note for note in result.notes)
    record = json.loads((result.folder / RESULT).read_text())
    assert record["rows"][0]["scores"]["accuracy"]["low"] is None
    assert "±" not in table(result)[1][0][4]


def test_random_weights_do_not_beat_themselves(tmp_path, digits):
    """A run that was never trained, against the same training of the same random weights: nothing, in every seed."""
    run = make_run(tmp_path / "run")
    save_weights(random_encoder(run.arch, run.norm, 0), run.path / ENCODER)
    result = transfer(run, digits, tmp_path / "out", **{**SHORT, "seeds": (0,)})
    assert result.rows[0].above["random"]["accuracy"].mean == 0
    assert result.rows[0].scores == result.rows[1].scores


def test_a_difference_that_is_the_same_under_every_seed_proves_nothing(run, digits, tmp_path):
    """Two seeds of equal differences: a t-interval without a width, which excludes everything else."""
    out = tmp_path / "out"
    result = transfer(run, digits, out, **SHORT)
    for name in result.cells:
        cell = json.loads((out / name).read_text())
        cell["scores"]["accuracy"] = 0.6 if cell["key"]["start"] == "pretrained" else 0.5
        (out / name).write_text(json.dumps(cell))
    again = transfer(run, digits, out, **SHORT)
    told = next(note for note in again.notes if "paired over 2 seeds" in note)
    assert "+10.0 (2 alike), the same under every seed, which has no interval, to random weights" in told
    assert ", above" not in told


def test_progress_goes_from_nothing_to_all(run, digits, tmp_path):
    told = []
    transfer(run, digits, tmp_path / "out", **SHORT, on_step=lambda text, done, total: told.append((text, done, total)))
    assert told[0] == ("pretrained 16 px, 1 epoch, seed 0", 0, 6 * 16**2)
    assert [t[1] for t in told] == sorted(t[1] for t in told)
    assert told[-1][1:] == (6 * 16**2, 6 * 16**2)


# ---- classes by name, and the class that swallows the others ---------------------------------------------------------


@pytest.mark.parametrize("balanced", [True, False])
def test_a_large_class_that_validation_lacks_is_told_of(run, digits, tmp_path, balanced):
    """Image-wang's trap in small: one digit has ten times the images of the two that validation shows."""
    whole = labelled("digits")
    some = of_some(whole, ("3", "8", "9"), ("3", "9"), (14, 140, 14))
    settings = Settings(balanced=balanced, unfreeze="all")
    result = transfer(run, some, tmp_path / "out", **{**SHORT, "epochs": (2,)}, settings=settings)
    share = result.rows[0].scores["predictions elsewhere"].mean
    assert (share < 0.4) if balanced else (share > 0.6)
    notes = "\n".join(result.notes)
    assert "the springer has 140 labelled images, 3 14" in notes
    assert ("every class is shown equally often" if balanced else "they are shown as they are (--as-is)") in notes
    count = sum(result.rows[0].elsewhere.values())
    assert (
        f"{count:.0f} of {len(some.valid)} predictions ({100 * share:.1f} %) fall on classes that validation" in notes
    )
    assert f"the largest share ({count:.0f}) on the springer (means over 2 runs)" in notes
    head, _ = table(result)
    assert head[4:6] == ["accuracy over all 3 outputs", "accuracy, outputs masked to the 2 classes of validation"]
    scores = result.rows[0].scores
    assert scores["accuracy masked"].mean >= scores["accuracy"].mean


def test_where_validation_has_all_classes_there_is_one_accuracy(run, digits, tmp_path):
    result = transfer(run, digits, tmp_path / "out", **SHORT)
    assert "masked" not in " ".join(table(result)[0])
    assert not any("classes that validation" in note for note in result.notes)


def tree(root, train, valid, side=20):
    rng = np.random.default_rng(0)
    for part, names in (("train", train), ("val", valid)):
        for name in names:
            (root / part / name).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


def test_images_that_had_to_be_enlarged_are_told_of(run, tmp_path):
    folder = tree(tmp_path / "images", ("a", "b"), ("b",))
    result = transfer(run, str(folder), tmp_path / "out", **{**SHORT, "sizes": (16, 48)})
    assert [n for n in result.notes if "enlarged" in n] == [
        "At 48 px the images were enlarged: the median of their shorter sides is 20 px."
    ]
    assert {row.size for row in result.rows} == {16, 48}
    assert len(table(result)[1]) == 10


def test_validation_images_in_pretraining_are_told_of(tmp_path, digits):
    run = make_run(tmp_path / "run", with_val=True)
    result = transfer(run, digits, tmp_path / "out", **{**SHORT, "seeds": (0,)})
    assert any("were among the unlabelled ones of pretraining" in note for note in result.notes)


# ---- the gate --------------------------------------------------------------------------------------------------------


def test_without_a_pass_nothing_is_trained_or_written(run, digits, tmp_path):
    with pytest.raises(GateRefused, match=r"no fine-tuning without a pass: .*--examine.*--no-gate") as told:
        transfer(run, digits, tmp_path / "out", **{**SHORT, "gate": "verify"}, reports=tmp_path / "reports")
    assert told.value.exit_code == 4
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_learner_passes_the_examination_and_the_pass_opens_the_gate(tmp_path):
    """Of `photos`, whose tree is read by the code that reads Image-wang."""
    run = make_run(tmp_path / "run", norm="batch")
    reports, out, data = tmp_path / "reports", tmp_path / "out", labelled("photos")
    given = {**SHORT, "sizes": (32,), "reports": reports}
    result = transfer(run, data, out, **{**given, "gate": "examine"}, budget=None)
    (noted,) = result.gate
    assert noted["verdict"] == "pass"
    report = json.loads(next(reports.glob("*/*/report.json")).read_text())
    checks = {c["id"]: c for c in report["checks"]}
    assert checks["weights-loaded"]["status"] == "pass"
    assert "tensors arrived" in checks["weights-loaded"]["summary"]
    assert not report["causes"]
    again = transfer(run, data, out, **{**given, "gate": "verify", "seeds": (5,), "epochs": (2,)})
    assert [g["pass"] for g in again.gate] == [noted["pass"]], "any seed, any number of epochs"
    with pytest.raises(GateRefused, match=r"setting lr: 0\.003, now 0\.5"):
        transfer(run, data, out, **{**given, "gate": "verify"}, settings=Settings(lr=0.5))


def test_the_gate_is_asked_for_every_size_before_anything_is_trained(run, digits, tmp_path, monkeypatch):
    asked = []

    def granted(build, name, *args, **kwargs):
        asked.append(build().dls.train.dataset.size)
        if asked[-1] == 20:
            raise GateRefused("shut")
        return {"pass": "there", "issued": "today", "verdict": "pass"}

    monkeypatch.setattr("sslwang.transfer.granted", granted)
    with pytest.raises(GateRefused, match="shut"):
        transfer(run, digits, tmp_path / "out", **{**SHORT, "sizes": (16, 20, 24), "gate": "verify"})
    assert asked == [16, 20]
    assert not (tmp_path / "out").exists()


def test_an_examination_that_is_interrupted_is_no_pass_and_ends_with_130(run, digits, tmp_path, monkeypatch):
    def examine(subject, seed=0, budget=None, progress=None):
        tool = Tool(name="diagnose", version="0")
        info = subject.describe()
        return Diagnosis(tool=tool, subject=info, seed=seed, verdict="pass", summary=".", seconds=1.0, partial=True)

    monkeypatch.setattr("sslwang.gated.examine", examine)
    with pytest.raises(GateRefused, match="the examination was interrupted") as told:
        transfer(run, digits, tmp_path / "out", **{**SHORT, "gate": "examine"}, reports=tmp_path / "reports")
    assert told.value.exit_code == 130
    assert list((tmp_path / "reports").glob("*/*/report.json"))
    assert not list((tmp_path / "reports").glob("*/*/pass.json"))


class Forgetful(PretrainRun):
    """A run whose encoder is loaded as in F27: a filter that matches nothing, and no word of it."""

    def encoder(self, which="last"):
        encoder = random_encoder(self.arch, self.norm, 0)
        state = {f"model.{n}": t for n, t in read_weights(self.path / ENCODER).items()}
        encoder.load_state_dict(state, strict=False)
        return encoder


@pytest.mark.slow
def test_weights_that_did_not_arrive_are_no_pass(run, digits, tmp_path):
    forgetful = Forgetful(run.path, run.record)

    def build():
        return transfer_learner(forgetful, digits, size=16)

    with pytest.raises(GateRefused, match=r"transfer-x was examined: fail: .*tensors arrived"):
        granted(build, "transfer-x", tmp_path / "reports", examined=True, budget=None)
    report = json.loads(next((tmp_path / "reports").glob("*/*/report.json")).read_text())
    assert (report["causes"][0]["id"], report["causes"][0]["proven"]) == ("weights-not-loaded", True)


# ---- what cannot be --------------------------------------------------------------------------------------------------


def test_a_missing_run_is_one_line(tmp_path, digits):
    for place, message in ((tmp_path / "no", "no such run"), (tmp_path, "no pretraining run in there")):
        with pytest.raises(DiagnoseError, match=message):
            transfer(place, digits, tmp_path / "out", **SHORT)
    assert not (tmp_path / "out").exists()


def test_a_run_that_did_not_end_is_refused_with_the_command_that_goes_on(tmp_path, digits):
    run = make_run(tmp_path / "pretrained" / "unmix" / "half", finished=False)
    with pytest.raises(DiagnoseError, match=r"did not come to its end; go on with sslwang pretrain --resume"):
        finished_run(run.path)
    with pytest.raises(DiagnoseError, match="none of its 1 runs is finished"):
        transfer(tmp_path / "pretrained", digits, tmp_path / "out", **SHORT)


def test_weights_of_another_architecture_are_refused_whole(run, digits, tmp_path):
    save_weights(make_encoder("resnet18", "batch"), run.path / ENCODER)
    with pytest.raises(DiagnoseError, match=r"does not fit the encoder, of whose 12 tensors none was loaded") as told:
        transfer(run, digits, tmp_path / "out", **SHORT)
    assert "\n" not in str(told.value)
    shutil.rmtree(run.path)
    with pytest.raises(DiagnoseError, match="no such run"):
        transfer(run.path, digits, tmp_path / "out", **SHORT)


def test_a_run_whose_record_names_another_architecture_is_refused(tmp_path, digits):
    run = make_run(tmp_path / "run", arch="notes", norm="batch")
    record = {**run.record, "arch": "small"}
    PretrainRun(run.path, record).save()
    with pytest.raises(DiagnoseError, match="does not fit the encoder"):
        transfer_learner(open_run(run.path), digits)


def test_a_class_of_validation_that_training_lacks_is_named(run, tmp_path):
    folder = tree(tmp_path / "images", ("a", "b"), ("b", "zebra"))
    with pytest.raises(DiagnoseError, match=r"zebra: training has no class zebra"):
        transfer(run, str(folder), tmp_path / "out", **SHORT)


def test_where_nothing_can_be_written_nothing_is_trained(run, digits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiagnoseError, match=r"--out .*file.*is a file, not a folder"):
        transfer(run, digits, tmp_path / "file" / "out", **SHORT)


def test_a_full_disk_keeps_what_is_finished(run, digits, tmp_path, monkeypatch):
    written = []

    def full(path, content, put=put_json):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        put(path, content)

    monkeypatch.setattr("sslwang.transfer.put_json", full)
    with pytest.raises(DiagnoseError, match=r"No space left on device.*finished trainings are kept"):
        transfer(run, digits, tmp_path / "out", **SHORT)
    monkeypatch.undo()
    assert transfer(run, digits, tmp_path / "out", **SHORT).kept == 2


@pytest.mark.parametrize("change", [{"epochs": ()}, {"seeds": ()}, {"epochs": (0,)}])
def test_nothing_to_train_is_refused(run, digits, tmp_path, change):
    with pytest.raises(DiagnoseError, match="nothing to train"):
        transfer(run, digits, tmp_path / "out", **{**SHORT, **change})


# ---- Image-wang ------------------------------------------------------------------------------------------------------

OF_VALIDATION = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11)  # places of its ten classes among the twenty of training


def coloured_tree(root, side=16):
    """Image-wang's classes by their folders, each a colour of its own under a little noise."""
    names = sorted(IMAGEWANG_TITLES)
    rng = np.random.default_rng(0)
    for part, places, count in (("train", range(20), 10), ("val", OF_VALIDATION, 3)):
        for place in places:
            (root / part / names[place]).mkdir(parents=True)
            colour = np.array([place % 3, place // 3 % 3, place // 9]) * 100 + 20
            for i in range(count):
                pixels = (colour + rng.integers(-15, 16, (side, side, 3))).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / names[place] / f"{i}.png")
    return root


def test_predictions_are_compared_by_the_names_of_classes(run, tmp_path):
    """F10: validation's classes numbered from 0 by themselves would put the accuracy of a perfect net at 0."""
    data = labelled(str(coloured_tree(tmp_path / "wang")))
    settings = Settings(unfreeze="all", inputs="normalised", bs=20, lr=1e-2)
    given = {**SHORT, "epochs": (12,), "seeds": (0,)}
    result = transfer(run, data, tmp_path / "out", **given, settings=settings)
    for row in result.rows:
        assert row.scores["accuracy"].mean > 0.8
        assert row.scores["accuracy masked"].mean >= row.scores["accuracy"].mean
    head, _ = table(result)
    assert head[4:6] == ["accuracy over all 20 outputs", "accuracy, outputs masked to the 10 classes of validation"]
    cell = json.loads((tmp_path / "out" / result.cells[0]).read_text())
    assert [name for name, recall in cell["recalls"].items() if recall is None] == [
        name for place, name in enumerate(sorted(IMAGEWANG_TITLES)) if place not in OF_VALIDATION
    ]
