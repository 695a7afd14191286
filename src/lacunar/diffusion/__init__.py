"""The mathematics of diffusion: schedule, process, losses, samplers."""
