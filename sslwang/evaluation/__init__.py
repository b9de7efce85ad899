"""Parts of `sslwang.evaluate`: starts, features, cells, and what is written of them."""
