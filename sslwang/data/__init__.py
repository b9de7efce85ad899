"""Where images come from, which of them a split may show, and loaders whose every item can be had again."""
