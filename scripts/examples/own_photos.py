"""Fine-tune on your own photos, and take the model along: to timm, to the pipeline of transformers, to ONNX and back.

python scripts/examples/own_photos.py --dataset pets    # a folder with a subfolder per class; without: the sample

Needs onnx, onnxscript, onnxruntime (pip install 'wrn-hub[export]') and transformers.
"""
import argparse
import json

import numpy as np
import onnxruntime
import timm
import torch
from PIL import Image
from transformers import pipeline

from wrn_hub import TrainOptions, class_names, load_dataset, metrics, train
from wrn_hub.evaluation.exported import export_source
from wrn_hub.recipes import finetune_defaults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="sample", help="(%(default)s)")
    parser.add_argument("--model", default="wrn_16_2.cifar10", help="to start from (%(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="(%(default)s)")
    parser.add_argument("--output", default="runs/own_photos", help="(%(default)s)")
    args = parser.parse_args()

    # The settings of `wrn-hub finetune`; every one of them is an argument of TrainOptions.
    settings = {**finetune_defaults(TrainOptions), "dataset": args.dataset, "model": args.model}
    result = train(TrainOptions(**{**settings, "epochs": args.epochs, "output": args.output}))
    folder = f"{args.output}/model"
    print(f"{result.accuracy:.2%} on {result.measured}")

    net = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    data = timm.data.resolve_data_config({}, model=net)
    transform = timm.data.create_transform(**data, is_training=False)
    photos = [Image.fromarray(image) for image in load_dataset(args.dataset, "test", size=data["input_size"][1]).images]
    with torch.inference_mode():
        logits = net(torch.stack([transform(photo) for photo in photos]))
    names = class_names(net)
    ours = [names[number] for number in logits.argmax(1)]

    # transformers takes the same folder, or the id of a Hub repository that holds it (--push-to-hub org/name).
    classify = pipeline("image-classification", model=folder)
    theirs = [said[0]["label"] for said in classify(photos[:8], top_k=1)]
    print(f"the pipeline says {', '.join(theirs)}; timm says {', '.join(ours[:8])}")

    # One file that needs neither torch nor this package; what it has to be told of images stands in its metadata.
    export_source(folder, f"{args.output}/photos.onnx")
    session = onnxruntime.InferenceSession(f"{args.output}/photos.onnx", providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    mean, std = (np.array(json.loads(told[key]), np.float32).reshape(3, 1, 1) for key in ("mean", "std"))
    pixels = np.stack([np.asarray(photo, np.float32).transpose(2, 0, 1) / 255 for photo in photos])
    (answers,) = session.run(["logits"], {"images": (pixels - mean) / std})
    same = metrics.agreement(torch.tensor(answers), logits)
    print(f"onnxruntime says the same as timm of {same:.1%} of {len(photos)} photos")


if __name__ == "__main__":
    main()
