"""The fal door: what `fal_client` and `@fal-ai/client` ask of fal, answered by this installation (K4)."""
