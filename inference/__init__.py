"""Models behind ports: detector, risk model, GPU probe, and the adapters that fulfil them."""
