"""Self-supervised pretraining on Image-wang: pretext tasks, then transfer to the supervised task."""
