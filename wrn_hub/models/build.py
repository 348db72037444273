"""A timm model by what a user types: a name, with or without a tag, a Hub id, or a folder of a model."""
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.models import get_arch_pretrained_cfgs
from timm.models._hub import download_from_hf, load_model_config_from_hf, load_model_config_from_path
from torch import nn

from ..errors import UserError, first_line, nearest
from ..weights import WeightsError, asking_the_hub, download, published_id, quiet_retries, say_what_is_asked
from .export import recover
from .folder import check_config, check_loaded, hub_weights, read_weights, weights_in
from .tensors import State, check_tensors

__all__ = ["ModelSource", "class_names", "compiled"]

_OF_ARGUMENTS = (AssertionError, AttributeError, LookupError, TypeError, ValueError)  # what a value that is none makes


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from, checked before anything is built.

    Attributes:
        name: As timm takes it: "arch", "arch.tag", "hf-hub:org/name" or "local-dir:folder".
        cfg: timm's pretrained cfg; that of a Hub id comes from the Hub, or from its cache.
    """

    name: str
    cfg: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "ModelSource":
        """Understand ``text``, which may also be the plain path of a model's folder, or of a run's that holds one.

        Raises:
            UserError: timm has no such model or tag, the folder holds no model, or the Hub can't be asked for one.
        """
        if text.startswith("hf-hub:"):
            repository = text.removeprefix("hf-hub:")
            with asking_the_hub(f"model {text}"):
                say_what_is_asked(f"model {text}")
                check_config(download_from_hf(repository, "config.json"))
                cfg, arch, _ = load_model_config_from_hf(repository)
            return cls(text, {**cfg, "architecture": arch})
        path = Path(text.removeprefix("local-dir:"))
        if not path.exists():
            recover(path)
        if path.is_dir() and not (path / "config.json").is_file():
            recover(path / "model")
            if (path / "model" / "config.json").is_file():
                path /= "model"
        if text.startswith("local-dir:") or (path.is_dir() and not timm.is_model(text)):
            if not (path / "config.json").is_file():
                raise UserError(
                    f"{path} is not the folder of a model: it needs config.json and model.safetensors")
            check_config(path / "config.json")
            try:
                cfg, arch, _ = load_model_config_from_path(path)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path / 'config.json'}: {first_line(error)}") from error
            return cls(f"local-dir:{path}", {**cfg, "architecture": arch})
        if not timm.is_model(text):
            usual = re.sub("wide[-_ ]?(resnet|residual[-_ ]?network)", "wrn", text.lower())  # as papers have it
            near = nearest(usual.partition(".")[0], timm.list_models())
            raise UserError(f"model {text!r}: timm has no model of this name.{near}")
        arch, _, tag = text.partition(".")
        try:
            cfg = timm.get_pretrained_cfg(text)
            return cls(text, cfg.to_dict() if cfg else {})  # a model that somebody else registered may have none
        except RuntimeError:
            tags = ", ".join(cfg.tag or "no tags" for cfg in get_arch_pretrained_cfgs(arch).values())
            raise UserError(f"model {text!r}: {arch} has no tag {tag!r}; it has {tags}") from None

    @property
    def size(self) -> int:
        """Side in pixels of the images that the model was made for; 32 where that is not known."""
        return self.cfg.get("input_size", (3, 32, 32))[-1]

    def create(self, pretrained: bool, num_classes: int | None = None, **kwargs: Any) -> nn.Module:
        """Build the model.

        Args:
            pretrained: Load its weights; those of a folder or a Hub id are loaded in any case.
            num_classes: Outputs; as the weights have them where None.
            **kwargs: For the model's class; None means its own default.

        Raises:
            UserError: the model takes no such argument; its weights can't be had, are damaged or not finite, or are
                not those of this net. Only the classifier may differ, where the number of classes does, and the first
                layer, where the number of channels does.
        """
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        if num_classes is not None:
            kwargs["num_classes"] = num_classes
        if ":" in self.name:
            return self._create_from_file(kwargs)
        try:
            net = timm.create_model(self.name, pretrained=pretrained, **kwargs)
        except UserError:
            raise
        except (SafetensorError, RuntimeError, OSError, *_OF_ARGUMENTS) as error:
            raise UserError(f"model {self.name}{_wrong(error, kwargs)}") from error
        if pretrained:
            state = {key: value for key, value in net.state_dict().items() if not value.is_meta}
            check_tensors(state, f"model {self.name}", whole_numbers=state)
        return net

    def create_for_rgb(self, pretrained: bool, num_classes: int | None = None, **kwargs: Any) -> nn.Module:
        """Build the model as :meth:`create` does, to see images as all are here: in RGB.

        Raises:
            UserError: it is for images of another number of channels; and as :meth:`create`.
        """
        for channels in (kwargs.get("in_chans", 3), (self.cfg.get("input_size") or (3,))[0]):
            if channels != 3:
                raise UserError(
                    f"model {self.name} for images of {channels} channel{'s' * (channels != 1)}: here all are RGB, "
                    "gray ones are made so; leave in_chans out, and a net that was made with it has to be made anew")
        return self.create(pretrained, num_classes, **kwargs)

    def _create_from_file(self, kwargs: dict[str, Any]) -> nn.Module:
        """The net of a folder or a Hub id, whose weights are held against what timm made of them."""
        file = self.weights_file
        assert file is not None
        state, arch = read_weights(file), self.cfg["architecture"]
        classes, channels = self.cfg.get("num_classes", 1000), self.cfg.get("input_size", (3,))[0]  # timm's defaults
        new_classes = kwargs.get("num_classes", classes) != classes
        new_channels = kwargs.get("in_chans", channels) != channels
        try:
            with quiet_retries():
                net = timm.create_model(self.name, pretrained=True, **kwargs)
        except WeightsError:
            raise
        except Exception as error:  # a config.json can make a net of anything, or of nothing
            with torch.random.fork_rng(devices=[]):
                wrong = self._misfit(state, kwargs, new_classes, new_channels)
            if not wrong and isinstance(error, UserError):
                raise
            said = f"{file} {wrong}" if wrong else f"model {self.name}{_wrong(error, kwargs)}"
            raise UserError(said) from error
        own = net.state_dict()
        check_tensors(state, file, {key for key in state if key not in own or not own[key].is_floating_point()})
        wrong = check_loaded(net, state, arch, new_classes, new_channels)
        if wrong:
            try:  # through timm's own translation of other names and shapes, where it has one for this net
                with torch.random.fork_rng(devices=[]):
                    whole = timm.create_model(self.name, pretrained=True)
            except Exception as error:
                raise UserError(f"{file} {wrong}") from error
            if check_loaded(net, whole.state_dict(), arch, new_classes, new_channels, adapted=True):
                raise UserError(f"{file} {wrong}")
        return net

    def _misfit(self, state: State, kwargs: dict[str, Any], new_classes: bool, new_channels: bool) -> str | None:
        """What keeps weights from fitting, or None where there is another reason why no net could be made."""
        try:
            net = timm.create_model(self.name, pretrained=False, **{**kwargs, "device": "meta"})
        except Exception:
            return None
        return check_loaded(net, state, self.cfg["architecture"], new_classes, new_channels)

    @property
    def weights_file(self) -> Path | None:
        """The file that the weights come from, where that is known; that of a Hub id lies in the cache.

        Raises:
            UserError: there is none, or it can't be had.
        """
        if self.name.startswith("local-dir:"):
            return weights_in(self.name.removeprefix("local-dir:"))
        if self.name.startswith("hf-hub:"):
            return hub_weights(self.name.removeprefix("hf-hub:"), self.cfg.get("hf_hub_filename"))
        published = f"{self.cfg.get('architecture')}.{self.cfg.get('tag')}"
        if not self.cfg.get("file") and published_id(published):
            return Path(download(published))  # in the cache, once the model was created
        return Path(self.cfg["file"]) if self.cfg.get("file") else None


def _wrong(error: Exception, kwargs: dict[str, Any]) -> str:
    """What keeps a net from being built: an argument that it doesn't take, a value of one, or something else."""
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error)) if isinstance(error, TypeError) else None
    if found:
        return f" takes no argument {found[1]!r}"
    reason = " ".join(str(error).split())[:300] or type(error).__name__  # torch says what on further lines
    if isinstance(error, LookupError):  # its whole message is what wasn't found
        reason = f"there is no {reason}"
    given = ", ".join(f"{name}={value!r}" for name, value in kwargs.items() if name != "num_classes")
    return f" can't be built with {given}: {reason}" if given and isinstance(error, _OF_ARGUMENTS) else f": {reason}"


def compiled(model: nn.Module, mode: str) -> nn.Module:
    """The model through torch.compile in one of its modes; itself for "none". "freezing" is inductor's option for
    inference: weights become constants, and BatchNorm goes into the convolutions; call it without gradients."""
    if mode == "none":
        return model
    # counted over all nets of a class in the process; beyond it they would silently run uncompiled
    torch._dynamo.config.recompile_limit = 64
    how = {"options": {"freezing": True}} if mode == "freezing" else {"mode": mode}
    return torch.compile(model, dynamic=False, **how)  # a size at a time: kernels for any size are slower


def class_names(model: nn.Module) -> list[str]:
    """Names of a model's classes in the order of its logits; numbers where nobody named them."""
    cfg = getattr(model, "pretrained_cfg", {})  # a net built without timm has none
    names = cfg.get("label_names")
    if isinstance(names, dict):  # of a net that has no name for some of its classes
        return [str(names.get(str(i), i)) for i in range(model.num_classes)]
    if names and len(names) == model.num_classes:
        return list(names)
    subset = infer_imagenet_subset(model) if model.num_classes in (1000, 21841, 21843, 11821) else None
    if subset:
        info = ImageNetInfo(subset)
        return [info.index_to_description(i) for i in range(model.num_classes)]
    return [str(i) for i in range(model.num_classes)]
