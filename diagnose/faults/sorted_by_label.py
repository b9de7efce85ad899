"""Training items are sorted by their label and read in that order."""

from fastai.learner import Learner

from diagnose.errors import NotApplicable
from diagnose.faults import Fault
from diagnose.faults._items import Altered, indexed


class SortedByLabel(Fault):
    """Sorts the training items by their one label, class index or number, and switches shuffling off."""

    cause = "loader-not-shuffled"

    def inject(self, learn: Learner) -> None:
        loader, n, item = indexed(learn, 0)
        if len(item) != n + 1 or getattr(item[n], "numel", lambda: 1)() != 1:
            raise NotApplicable("items have no single label to sort by")
        keys = [float(loader.dataset[i][n]) for i in range(len(loader.dataset))]
        if len(set(keys)) == len(keys) and all(key.is_integer() for key in keys):
            raise NotApplicable(
                "the label is the number of the item, as contrastive losses carry it: no order is worse"
            )
        loader.dataset = Altered(loader.dataset, n, indices=sorted(range(len(keys)), key=keys.__getitem__))
        loader.shuffle = False
