"""What is known before any network: Gaussian fields, drift from guides, classical fills."""
