"""Random checkpoints of other people's kinds: guided-diffusion state dicts and diffusers folders."""

import torch

from lacunar.models.guided_diffusion import GuidedOptions, GuidedShape, _module_names, diffusers_settings

# RePaint's kind of network: learned variance, residual blocks that resize; attention in the middle alone.
SHAPE = GuidedShape(
    in_channels=3,
    out_channels=6,
    model_channels=32,
    channel_mult=(1, 1, 1, 1, 1),
    num_res_blocks=1,
    attention_resolutions=(),
    use_scale_shift_norm=True,
    resblock_updown=True,
)
# Settings by the names of guided-diffusion's scripts.
ARCHITECTURE = {"image_size": 256, "num_head_channels": 16, "learn_sigma": True, "use_new_attention_order": True}


def guided_state(seed=0):
    """A state dict with guided-diffusion's own names, which SHAPE and ARCHITECTURE describe."""
    from diffusers import UNet2DModel

    network = UNet2DModel(**diffusers_settings(SHAPE, GuidedOptions(**ARCHITECTURE)))
    shake(network, 0.05, seed)
    theirs = {}
    for name, ours in _module_names(SHAPE):
        if ours not in theirs or (".upsamplers." in ours and name.split(".")[2] == "1"):  # the last block doubles
            theirs[ours] = name
    state, joint = {}, {}
    for key, value in network.state_dict().items():
        module, _, leaf = key.rpartition(".")
        if module.endswith((".to_q", ".to_k", ".to_v")):
            joint.setdefault(f"{theirs[f'{module[:-4]}qkv']}.{leaf}", []).append(value)
        else:
            flat = module.endswith(".to_out.0") and leaf == "weight"
            state[f"{theirs[module]}.{leaf}"] = value[..., None] if flat else value
    for key, parts in joint.items():
        rows = torch.cat(parts)
        state[key] = rows[..., None] if rows.ndim == 2 else rows
    return state


def save_diffusers_folder(folder, size, *, levels=2, seed=0):
    """A folder like google/ddpm-celebahq-256, with few channels."""
    from diffusers import DDPMScheduler, UNet2DModel

    network = UNet2DModel(
        sample_size=size,
        block_out_channels=(8,) * levels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        add_attention=False,
        norm_num_groups=4,
    )
    shake(network, 0.05, seed)
    network.save_pretrained(folder)
    DDPMScheduler(variance_type="fixed_small").save_pretrained(folder)
    return folder


def shake(network, scale, seed):
    """Add noise to every parameter: some start at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
