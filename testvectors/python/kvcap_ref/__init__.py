"""An independent reader and sealer of KV capsules, written from `spec/` alone."""
