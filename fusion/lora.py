"""LoRA on a tower: the third way between a frozen and a trained one."""

from torch import nn

from fusion.tower import ImageTower, TextTower


def add_lora(tower: ImageTower | TextTower, *, rank: int) -> None:
    """Put a low-rank adapter (LoRA, Hu et al. 2022) beside every linear layer; a network without any has convolutions.

    The features stay as they are until the adapters are trained.
    """
    from peft import LoraConfig, inject_adapter_in_model

    # The projection inside torch's own attention is a subclass, which is never called and would learn nothing.
    names = {
        kind: [name for name, module in tower.body.named_modules() if type(module) is kind]
        for kind in (nn.Linear, nn.Conv2d)
    }
    targets = names[nn.Linear] or names[nn.Conv2d]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), tower.body)


def trainable(tower: ImageTower | TextTower) -> list[nn.Parameter]:
    """The parameters that training changes: those of the adapters where there are any, else all."""
    adapters = [parameter for name, parameter in tower.named_parameters() if ".lora_" in name]
    return adapters or list(tower.parameters())


def merge_lora(tower: ImageTower | TextTower) -> None:
    """Add the adapters to the weights beside which they lie, which leaves the tower built as before `add_lora`."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(tower.body.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            tower.body.set_submodule(name, module.get_base_layer())
