"""The commands of `sslwang` that train or measure, one a file; torch and fastai are imported when one is called."""
