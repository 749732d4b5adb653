"""One FX graph of ATen operators for every lowering: capture, edit, measure."""
