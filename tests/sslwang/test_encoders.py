"""Encoders by name: their maps, their sizes, what frozen means, and weights that are loaded whole or not at all."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models

from diagnose.errors import DiagnoseError
from sslwang.models.encoder import Backbone, Encoder, NotesEncoder, architectures, make_encoder
from sslwang.models.pairs import PairNet
from sslwang.models.single import SingleNet
from sslwang.models.weights import load_weights, read_weights, save_weights
from sslwang.pretext import pretext_learner
from sslwang.tasks.unmix import Unmix, UnmixSettings

SMALL_NETS = ("mobilenet_v2", "resnet18", "squeezenet1_1", "shufflenet_v2_x0_5", "xresnet18")


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def images(count=2, size=64):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def told_size(encoder, size):
    with pytest.raises(DiagnoseError) as told:
        encoder(images(1, size))
    return int(str(told.value).split("it needs ")[1].split(" ")[0])


# ---- maps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_the_encoder_of_the_notes(norm):
    """R:models.py:81: widths, strides, no padding, norm, Mish; 394 k parameters."""
    encoder = make_encoder("notes", norm)
    convs = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.stride[0], c.kernel_size[0], c.padding[0]) for c in convs] == [
        (8, 2, 3, 0),
        (16, 2, 3, 0),
        (32, 1, 3, 0),
        (64, 1, 3, 0),
        (128, 1, 3, 0),
        (256, 1, 3, 0),
    ]
    assert sum(isinstance(m, nn.Mish) for m in encoder.modules()) == 6
    kind = nn.GroupNorm if norm == "group" else nn.BatchNorm2d
    assert sum(isinstance(m, kind) for m in encoder.modules()) == 6
    assert parameters(encoder) == 394_056
    assert encoder(images(size=128)).shape == (2, 256, 23, 23)


@pytest.mark.parametrize("arch", ["small", "notes", *SMALL_NETS])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_maps_have_the_stated_channels_and_the_norm_that_was_asked_for(arch, norm):
    if arch == "squeezenet1_1" and norm == "batch":
        pytest.skip("it has no norm at all; see below")
    encoder = make_encoder(arch, norm)
    maps = encoder(images())
    assert maps.ndim == 4
    assert maps.shape[:2] == (2, encoder.channels)
    has_batch = any(isinstance(m, nn.BatchNorm2d) for m in encoder.modules())
    assert has_batch == (norm == "batch")
    assert encoder.training, "looking for the channels leaves the mode as it was"
    assert not encoder.frozen


def whole_model(arch):
    torch.manual_seed(0)
    return torchvision_models.get_model(arch, weights=None).eval()


@pytest.mark.parametrize("arch", ["mobilenet_v2", "resnet18", "densenet121", "shufflenet_v2_x0_5", "swin_t"])
def test_the_maps_are_what_the_whole_model_pools(arch, monkeypatch):
    """The classifier's own forward, its pool replaced by one that keeps what it was given."""
    whole = whole_model(arch)
    seen = []
    if hasattr(whole, "avgpool"):
        whole.avgpool.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    elif arch == "shufflenet_v2_x0_5":
        whole.conv5.register_forward_hook(lambda m, x, y: seen.append(y))
    else:
        pool = nn.functional.adaptive_avg_pool2d
        monkeypatch.setattr(nn.functional, "adaptive_avg_pool2d", lambda x, *a, **k: seen.append(x) or pool(x, *a, **k))
    with torch.no_grad():
        whole(images())
        assert torch.equal(Backbone(copy.deepcopy(whole)).eval()(images()), seen[-1])


def test_group_norms_keep_scale_and_shift():
    torch.manual_seed(0)
    batch = make_encoder("xresnet18", "batch")
    torch.manual_seed(0)
    group = make_encoder("xresnet18", "group")
    pairs = list(zip(batch.named_parameters(), group.named_parameters()))
    assert len(pairs) == len(list(batch.parameters())) == len(list(group.parameters()))
    for (name, one), (other, two) in pairs:
        assert name == other
        assert torch.equal(one, two), name
    assert any(not torch.equal(p, torch.ones_like(p)) for n, p in group.named_parameters() if p.ndim == 1), (
        "zero scales"
    )


def test_any_model_whose_children_run_one_after_the_other_is_cut():
    """The shape of models in other libraries: blocks in a list, a pool by name, a head."""

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, 2)
            self.blocks = nn.ModuleList([nn.Conv2d(8, 8, 3), nn.ReLU()])
            self.aux_head = nn.Linear(8, 2)
            self.global_pool = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())
            self.head = nn.Linear(8, 5)

    encoder = Backbone(Other())
    assert encoder.channels == 8
    assert encoder.cut_off == ("aux_head", "global_pool", "head")
    assert list(encoder.state_dict()) == ["stem.weight", "stem.bias", "blocks.0.weight", "blocks.0.bias"]


def test_all_names_of_torchvision_and_fastai_are_known():
    names = architectures()
    assert names[:2] == ["small", "notes"]
    assert {"mobilenet_v2", "resnet50", "convnext_tiny", "xresnet50", "xse_resnext50"} <= set(names)
    assert len(names) == len(set(names))


# ---- clear refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arch": "mobilnet_v2"}, "encoder.arch=mobilnet_v2: no such encoder; did you mean mobilenet_v2"),
        ({"arch": "smal"}, "did you mean small"),
        ({"arch": "xresnet19"}, "did you mean xresnet"),
        ({"arch": "qqqqqq"}, "no such encoder; small, notes, or the name of"),
        ({"arch": "squeezenet1_1", "norm": "batch"}, "encoder.norm=batch: squeezenet1_1 has no batch norm"),
        ({"arch": "resnet18", "weights": "imagenet"}, "trained with batch norm; set encoder.norm=batch"),
        ({"arch": "xresnet18", "weights": "imagenet", "norm": "batch"}, "torchvision has none for xresnet18"),
        ({"weights": "imagenet"}, "torchvision has none for small"),
        ({"weights": "/no/such/file.pth"}, "/no/such/file.pth: no such file or run"),
    ],
)
def test_what_cannot_be_is_one_clear_line(given, message):
    with pytest.raises(DiagnoseError) as told:
        make_encoder(**given)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_a_net_that_makes_no_maps_is_refused():
    with pytest.raises(DiagnoseError, match="makes no maps of an image"):
        Backbone(torchvision_models.VisionTransformer(32, 16, 1, 1, 8, 8), "vit")


@pytest.mark.parametrize("arch", ["notes", "squeezenet1_1", "alexnet"])
def test_images_that_are_too_small_are_refused_and_the_size_that_is_named_is_the_smallest(arch):
    encoder = make_encoder(arch).eval()
    least = told_size(encoder, 16)
    assert encoder(images(1, least)).shape[1] == encoder.channels
    assert told_size(encoder, least - 1) == least


def test_other_errors_of_an_encoder_stay_what_they_are():
    encoder = make_encoder("notes")
    with pytest.raises(RuntimeError, match="channels"):
        encoder(torch.zeros(1, 4, 16, 16))
    encoder[3].register_forward_hook(lambda m, x, y: (_ for _ in ()).throw(RuntimeError("out of memory")))
    with pytest.raises(RuntimeError, match="out of memory"):
        encoder(images())


# ---- frozen -------------------------------------------------------------------------------------------------------


def test_a_frozen_encoder_stays_bit_identical_and_its_network_learns():
    """Neither parameters nor buffers move, under batch norm, weight decay and a whole network in training mode."""
    task = Unmix(UnmixSettings(bs=8, items=32, valid_items=8, wd=0.1))
    encoder = make_encoder("small", "batch", frozen=True)
    learner = pretext_learner(task.loaders(0), PairNet(encoder), task.loss(), wd=0.1)
    before = copy.deepcopy(learner.model.state_dict())
    with learner.no_logging():
        learner.fit(2, 1e-2)
    learner.model.train()
    learner.model(*(images() for _ in range(4)))
    changed = {n for n, t in learner.model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed
    assert not [n for n in changed if n.startswith("encoder.")]
    assert not any(m.training for m in encoder.modules())
    assert learner.model.head.training


def test_an_encoder_that_is_not_frozen_moves():
    encoder = make_encoder("small", "batch")
    before = copy.deepcopy(encoder.state_dict())
    SingleNet(encoder)(images()).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert not torch.equal(encoder.state_dict()["0.1.running_mean"], before["0.1.running_mean"])


def test_gradients_pass_through_a_frozen_encoder_to_its_input():
    x = images().requires_grad_()
    make_encoder("small", frozen=True)(x).square().sum().backward()
    assert x.grad.abs().max() > 0


# ---- weights ------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained():
    torch.manual_seed(7)
    return PairNet(Encoder("batch"))


def same(one, two):
    a, b = one.state_dict(), two.state_dict()
    return list(a) == list(b) and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("kind", ["encoder", "network", "fastai", "compiled", "parallel"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_back_from_whatever_they_were_saved_as(trained, tmp_path, kind, suffix):
    state = trained.state_dict()
    saved = {
        "encoder": trained.encoder.state_dict(),
        "network": state,
        "fastai": state if suffix == ".safetensors" else {"model": state, "opt": {"state": []}},
        "compiled": {f"_orig_mod.{n}": t for n, t in state.items()},
        "parallel": {f"module.{n}": t for n, t in trained.encoder.state_dict().items()},
    }[kind]
    path = tmp_path / f"saved{suffix}"
    if suffix == ".pth":
        torch.save(saved, path)
    else:
        from safetensors.torch import save_file

        save_file(saved, path)
    encoder = make_encoder("small", "batch", weights=str(path))
    assert same(encoder, trained.encoder)
    assert encoder.loaded == len(trained.encoder.state_dict()) == 24


@pytest.mark.parametrize("name", ["encoder.safetensors", "model.safetensors", "models/last.pth"])
def test_a_run_is_as_good_as_its_file(trained, tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".pth":
        torch.save(trained.state_dict(), path)
    else:
        assert save_weights(trained, path) == len(trained.state_dict())
    (tmp_path / "report.json").write_text("{}")
    assert same(make_encoder("small", "batch", weights=str(tmp_path), frozen=True), trained.encoder)


def test_a_folder_without_one_file_of_weights_is_refused(tmp_path, trained):
    with pytest.raises(DiagnoseError, match="which file holds the weights\\? there is none"):
        read_weights(tmp_path)
    for name in ("a.pth", "b.pth"):
        torch.save(trained.state_dict(), tmp_path / name)
    with pytest.raises(DiagnoseError, match=r"there is a\.pth, b\.pth"):
        read_weights(tmp_path)


def test_weights_that_do_not_fit_are_named_and_none_is_loaded(trained):
    encoder = Encoder("batch")
    before = copy.deepcopy(encoder)
    good = trained.encoder.state_dict()
    for change, message in [
        ({"0.0.weight": None}, "1 missing: 0.0.weight"),
        ({"4.0.weight": torch.zeros(1)}, "1 left over: 4.0.weight"),
        ({"1.0.weight": torch.zeros(2, 2)}, "1 of another shape: 1.0.weight"),
        ({"2.1.bias": torch.full((64,), torch.nan)}, "1 not finite: 2.1.bias"),
        (dict.fromkeys(list(good)[1:6]), "5 missing: 0.1.weight, 0.1.bias, 0.1.running_mean and 2 more"),
    ]:
        state = {n: t for n, t in {**good, **change}.items() if t is not None}
        with pytest.raises(DiagnoseError, match="none was loaded") as told:
            load_weights(encoder, state, "x.pth")
        assert message in str(told.value)
        assert "\n" not in str(told.value)
        assert same(encoder, before)


def test_weights_under_another_norm_say_so(trained, tmp_path):
    save_weights(trained, tmp_path / "x.safetensors")
    with pytest.raises(DiagnoseError, match=r"12 left over: .*_tracked.*trained under another encoder\.norm"):
        make_encoder("small", "group", weights=str(tmp_path / "x.safetensors"))


def test_weights_of_another_net_are_refused(tmp_path):
    save_weights(NotesEncoder("batch"), tmp_path / "x.safetensors")
    with pytest.raises(DiagnoseError, match="left over"):
        make_encoder("small", "batch", weights=str(tmp_path / "x.safetensors"))


def test_a_network_with_two_likely_parts_is_taken_at_its_encoder(trained):
    """A decoder or a second copy of the encoder must not be loaded in its place."""
    wrong = {n: torch.zeros_like(t) for n, t in trained.encoder.state_dict().items()}
    for other in ("decoder", "backbone", "head"):
        state = {f"{other}.{n}": t for n, t in wrong.items()} | trained.state_dict()
        encoder = Encoder("batch")
        load_weights(encoder, state)
        assert same(encoder, trained.encoder)
    with pytest.raises(DiagnoseError, match="24 missing"):
        load_weights(Encoder("batch"), {f"decoder.{n}": t for n, t in wrong.items()})


class Dangerous:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize("content", ["pickle", "text", "empty", "list"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_hold_no_weights_are_refused_and_never_executed(tmp_path, capsys, content, suffix):
    path = tmp_path / f"x{suffix}"
    if content in ("pickle", "list"):
        torch.save({"w": Dangerous()} if content == "pickle" else [1, 2], path)
    else:
        path.write_text("hello" if content == "text" else "")
    with pytest.raises(DiagnoseError, match=r"not readable as weights|holds no weights") as told:
        read_weights(path)
    assert "\n" not in str(told.value)
    assert "unpickled" not in capsys.readouterr().out


def test_weights_of_imagenet_come_from_the_local_disk_only(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    with pytest.raises(DiagnoseError, match=r"resnet18-\w+\.pth is not there, and nothing is downloaded.*https"):
        make_encoder("resnet18", "batch", weights="imagenet")
    whole = whole_model("resnet18")
    (tmp_path / "checkpoints").mkdir()
    name = torchvision_models.ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    torch.save(whole.state_dict(), tmp_path / "checkpoints" / name)
    encoder = make_encoder("resnet18", "batch", weights="imagenet", frozen=True)
    assert encoder.loaded == len(whole.state_dict()) - 2, "all but the classifier's weight and bias"
    seen = []
    whole.avgpool.register_forward_pre_hook(lambda m, x: seen.append(x[0]))
    with torch.no_grad():
        whole(images())
        assert torch.equal(encoder(images()), seen[0])


# ---- through the settings of a task -------------------------------------------------------------------------------


def test_settings_reach_the_encoder(trained, tmp_path):
    save_weights(trained, tmp_path / "x.safetensors")
    given = {"norm": "batch", "weights": str(tmp_path / "x.safetensors"), "frozen": True}
    learner = Unmix(UnmixSettings(bs=4, items=4, valid_items=4, encoder=given)).learner(0)
    assert same(learner.model.encoder, trained.encoder)
    assert learner.model.encoder.frozen
    notes = Unmix(UnmixSettings(encoder={"arch": "notes"})).encoder()
    assert isinstance(notes, NotesEncoder)


@pytest.mark.parametrize("arch", ["notes", "mobilenet_v2", "xresnet18"])
def test_a_learner_trains_with_every_kind_of_encoder(arch):
    task = Unmix(UnmixSettings(bs=2, items=6, valid_items=2, encoder={"arch": arch}, lr=1e-3))
    learner = task.learner(0)  # three steps: some residual blocks begin at a scale of 0
    before = [p.detach().clone() for p in learner.model.parameters()]
    with learner.no_logging():
        learner.fit(1)
    assert torch.isfinite(torch.tensor(learner.recorder.values[-1][0]))
    moved = [not torch.equal(a, b) for a, b in itertools.zip_longest(before, learner.model.parameters())]
    assert sum(moved) >= 0.9 * len(moved)
