"""Runs in the exporter's environment: make an RT-DETRv2 checkpoint with made-up weights.

Weights as the library draws them tie all queries together: everything would be found at one place.
So layers get He's initialisation, and each BatchNorm the statistics of real photos.

    python -I calibrate_checkpoint.py r18|small PICTURES.npz FOLDER
"""

import sys

import numpy as np
import torch
from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

SEED = 7


def config(size: str) -> RTDetrV2Config:
    """Return the published architecture with ResNet-18, or the smallest with the same outputs."""
    stem = 64 if size == "r18" else 16
    widths = [64, 128, 256, 512] if size == "r18" else [16, 16, 32, 32]
    backbone = RTDetrResNetConfig(
        embedding_size=stem,
        hidden_sizes=widths,
        depths=[2 if size == "r18" else 1] * 4,
        layer_type="basic",
        hidden_act="relu",
        downsample_in_first_stage=False,
        downsample_in_bottleneck=False,
        out_features=["stage2", "stage3", "stage4"],
    )
    small = {
        "d_model": 32,
        "encoder_hidden_dim": 32,
        "encoder_ffn_dim": 32,
        "encoder_attention_heads": 4,
        "decoder_in_channels": [32, 32, 32],
        "decoder_ffn_dim": 32,
        "decoder_attention_heads": 4,
    }
    return RTDetrV2Config(
        backbone_config=backbone,
        encoder_in_channels=widths[1:],
        hidden_expansion=0.5,
        decoder_layers=3 if size == "r18" else 2,
        num_labels=80,
        **({} if size == "r18" else small),
    )


def main(size: str, pictures: str, folder: str) -> None:
    """Draw the weights, calibrate them on the pictures, and save the checkpoint."""
    torch.manual_seed(SEED)
    model = RTDetrV2ForObjectDetection(config(size)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            relu = isinstance(module, torch.nn.Conv2d)
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if relu else "linear")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    hooks = [
        module.register_forward_pre_hook(calibrate)
        for module in model.modules()
        if "BatchNorm" in type(module).__name__
    ]
    with torch.no_grad():
        model(pixel_values=torch.from_numpy(np.load(pictures)["images"]).float() / 255)
    for hook in hooks:
        hook.remove()
    resemble_trained(model)
    model.save_pretrained(folder)


def resemble_trained(model: RTDetrV2ForObjectDetection) -> None:
    """Let the best scores lie between nearly 0 and nearly 1, and each layer move boxes a little.

    Boxes that jump from layer to layer multiply the last digit's rounding, on each processor
    another one.
    """
    for name, module in model.named_modules():
        if "class_embed" in name and isinstance(module, torch.nn.Linear):
            module.weight.data.mul_(2)
            module.bias.data.sub_(6)
        if "bbox" in name and name.endswith("layers.2"):
            module.weight.data.mul_(0.2)


def calibrate(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
    """Give a BatchNorm the statistics of what reaches it; the layers before it have theirs."""
    (values,) = inputs
    module.running_mean.copy_(values.mean((0, 2, 3)))
    module.running_var.copy_(values.var((0, 2, 3), unbiased=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
