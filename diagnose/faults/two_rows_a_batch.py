"""Two rows a batch, through a head with three batch norms after pooling."""

from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner
from torch import nn

from diagnose.errors import NotApplicable
from diagnose.faults import Fault, last_linear, places_before
from diagnose.isolate import loaders


class TwoRowsABatch(Fault):
    """Loads two rows at a time; the head, of the kind that fastai builds, learns with sixteen."""

    cause = "batch-too-small"

    def inject(self, learn: Learner) -> None:
        train, *others = loaders(learn)
        if not isinstance(train, DataLoader):
            raise NotApplicable("the loader is not fastai's: its batch size cannot be changed")
        parent, name, layer = last_linear(learn.model)
        if places_before(learn, layer):
            raise NotApplicable("its last linear layer answers for several places of a row: the norm takes one")
        width, layers = layer.in_features, []
        for _ in range(2):
            layers += [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]
        head = nn.Sequential(nn.BatchNorm1d(width), *layers).to(layer.weight.device)
        setattr(parent, name, nn.Sequential(head, layer))
        device = getattr(learn.dls, "device", None)
        learn.dls = DataLoaders(train.new(bs=2), *others, device=device)
