# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Time and memory of whole predictions, part by part, next to mmdet's networks.

From an image as an array to its panoptic map, all contenders in one run, image by
image in turn. Each has a process of its own, so that neither warms or bloats another.
Decoding, drawing and writing are left out.

Nothing is downloaded, so weights are random, and what a network finds is set to what
is usual in a street scene, alike on all sides. Batch norms hold the statistics of the
image, as after a training. Of RoI heads the score threshold is where 200 pairs of box
and class pass it, before NMS, and the 30 best of what is left get masks and are fused,
which cover their boxes. Of the Transformers 30 queries pass. Semantic logits of random
weights hardly agree between neighbours, which for our fusion is the worst case. Only
the panoptic map is asked for, so Mask2Former's instances and ours are off. The
published configs have their own classes: 80 and 53 of COCO for mmdet's.

ONNX Runtime has the same weights, exported by tools/deployment/export_onnx.py.
"""

import argparse
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking import (
    CONFIGS,
    MB,
    Timer,
    in_fresh_process,
    make_image,
    parse_size,
    peak_resident_mb,
    print_json,
    reset_peak,
    resident_mb,
)

OURS = {
    'ours eager': {},
    'ours prepared': {'prepare': True},
    'ours prepared bf16': {'prepare': True, 'dtype': 'bfloat16'},
    'ours prepared fp16': {'prepare': True, 'dtype': 'float16'},
    'ours compiled': {'prepare': True, 'compile': True},
}
ONNX = 'ours onnxruntime'
MMDET = {
    'panoptic-fpn_r50': 'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
    'maskformer_r50': 'maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
    'mask2former_r50': 'mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
}
OPTIONAL = ('ours prepared bf16', 'ours prepared fp16', 'ours compiled')
NAMES = (*OURS, ONNX, *MMDET)
CANDIDATES, INSTANCES = 200, 30
EXPORTER = Path(__file__).parents[1] / 'deployment' / 'export_onnx.py'


def build_network(config: Any) -> Any:
    """Build a network with random weights, whatever its config would load."""
    import torch
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    config.model.backbone.init_cfg = None
    return MODELS.build(config.model).eval().requires_grad_(False)


def make_batch(image: np.ndarray) -> dict:
    """Do what a pipeline without resize does."""
    import torch
    from mmdet.structures import DetDataSample

    shape = image.shape[:2]
    meta = {'img_shape': shape, 'ori_shape': shape, 'scale_factor': (1.0, 1.0)}
    inputs = torch.from_numpy(image).permute(2, 0, 1).contiguous()
    return {'inputs': [inputs], 'data_samples': [DetDataSample(metainfo=meta)]}


def make_typical(model: Any, image: np.ndarray) -> None:
    """Let a network with random weights find as much as a trained one."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    batch = model.data_preprocessor(make_batch(image))
    inputs, samples = batch['inputs'], batch['data_samples']
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.training, norm.momentum = True, 1.0
        features = model.extract_feat(inputs)
        if hasattr(model, 'semantic_head'):
            model.semantic_head(features)
        model.eval()
        features = model.extract_feat(inputs)
        if hasattr(model, 'roi_head'):
            _make_detections_typical(model, features, samples)
        else:
            classes, _ = model.panoptic_head.predict(features, samples)
            scores, labels = classes[0].softmax(-1).max(-1)
            scores = scores[labels != model.panoptic_fusion_head.num_classes]
            # `scores > object_mask_thr` pass
            threshold = _score_of_rank(scores, INSTANCES + 1)
            cfg = model.panoptic_fusion_head.test_cfg
            cfg.update(object_mask_thr=threshold, instance_on=False)


def _make_detections_typical(model: Any, features: Any, samples: list) -> None:
    import torch
    from mmdet.structures.bbox import bbox2roi

    head = model.roi_head
    # Masks that cover their boxes, and classes that are not all equally likely.
    torch.nn.init.constant_(head.mask_head.conv_logits.bias, 1.0)
    proposals = model.rpn_head.predict(features, samples, rescale=False)
    rois = bbox2roi([found.bboxes for found in proposals])
    logits = head._bbox_forward(features, rois)['cls_score']
    head.bbox_head.fc_cls.weight.mul_(3 / logits.std().clamp(min=1e-6))

    logits = head._bbox_forward(features, rois)['cls_score']
    scores = logits.softmax(-1)[:, :-1].flatten()
    head.test_cfg.score_thr = _score_of_rank(scores, CANDIDATES + 1)
    panoptic = model.test_cfg.panoptic
    panoptic.update(with_instances=False, with_semantic=False)
    if type(model).__name__ != 'EfficientPS':
        # All that its RoI head finds is fused.
        head.test_cfg.max_per_img = INSTANCES
        return
    found = head.predict(features, proposals, samples)[0].scores
    panoptic.score_thr = _score_of_rank(found, INSTANCES)
    # The configs of model and heads are copies of one another.
    model.panoptic_fusion_head.test_cfg.score_thr = panoptic.score_thr


def _score_of_rank(scores: Any, rank: int) -> float:
    """The score of some rank from above, 0 if there are not as many."""
    return (
        scores.sort(descending=True).values[rank - 1].item()
        if len(scores) >= rank
        else 0.0
    )


def write_ours(config_name: str, image_size: tuple[int, int], folder: str) -> None:
    """Write config and checkpoint of our network; meant for a fresh process."""
    import torch

    from mmdet_efficientps import load_config

    config = load_config(config_name)
    model = build_network(config)
    make_typical(model, make_image(*image_size))
    config.model.test_cfg.rcnn.score_thr = model.roi_head.test_cfg.score_thr
    config.model.test_cfg.panoptic = model.test_cfg.panoptic
    config.dump(f'{folder}/config.py')
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, f'{folder}/weights.pth')


def load_ours(
    folder: str,
    timer: Timer,
    device: str,
    prepare: bool = False,
    dtype: str | None = None,
    compile: bool = False,
) -> Callable[[np.ndarray], Any]:
    """Load our network, as trained or prepared; return what predicts."""
    import torch
    from mmengine.config import Config

    from mmdet_efficientps.models import prepare_for_inference

    model = build_network(Config.fromfile(f'{folder}/config.py'))
    model.load_state_dict(torch.load(f'{folder}/weights.pth')['state_dict'])
    model.to(device)
    if prepare:
        kind = getattr(torch, dtype) if dtype else None
        model = prepare_for_inference(model, dtype=kind, compile=compile)
    return _predictor(model, timer)


def load_mmdet(
    config: str, image: np.ndarray, timer: Timer, device: str
) -> Callable[[np.ndarray], Any]:
    """Build a network of mmdet as its config has it; return what predicts."""
    from mmengine.hub import get_config

    model = build_network(get_config(f'mmdet::{config}'))
    make_typical(model, image)
    return _predictor(model.to(device), timer)


def _predictor(model: Any, timer: Timer) -> Callable[[np.ndarray], Any]:
    """Time the parts of a network of mmdet; return what makes a panoptic map."""
    import torch

    timer.wrap(model.data_preprocessor, 'forward', 'preprocess')
    fusion_head = model.panoptic_fusion_head
    timer.wrap(
        fusion_head, 'fuse' if hasattr(fusion_head, 'fuse') else 'predict', 'fusion'
    )
    # What is called as a module may have been compiled: that call is timed.
    extract_feat = model.backbone, getattr(model, 'neck', None)
    for name, part in zip(('backbone', 'neck'), extract_feat, strict=True):
        if part is not None:
            timer.wrap_calls(part, name)
    if hasattr(model, 'roi_head'):
        timer.wrap(model.rpn_head, 'predict', 'rpn', count='proposals')
        timer.wrap(model.roi_head, 'predict', 'roi', count='instances')
        if type(model).__name__ == 'EfficientPS':
            timer.wrap_calls(model.semantic_head, 'semantic')
        else:
            timer.wrap(model.semantic_head, 'predict', 'semantic')
    else:
        timer.wrap(model.panoptic_head, 'predict', 'head')

    def predict(image: np.ndarray) -> Any:
        with torch.no_grad():
            with timer.part('preprocess'):
                batch = make_batch(image)
            result = model.test_step(batch)[0]
            return result.pred_panoptic_seg.sem_seg[0].cpu().numpy()

    return predict


def load_onnx(
    model: str, timer: Timer, threads: int, device: str
) -> Callable[[np.ndarray], Any]:
    """Load an exported network; return what predicts."""
    from mmdet_efficientps.deployment.panoptic_onnx import PanopticOnnx

    providers = ['CPUExecutionProvider']
    if device != 'cpu':
        providers.insert(0, 'CUDAExecutionProvider')
    network = PanopticOnnx(model, providers=providers, threads=threads)
    timer.wrap(network.session, 'run', 'network')
    timer.wrap(network, 'fuse', 'fusion')

    def predict(image: np.ndarray) -> Any:
        logits = network.logits(image)
        panoptic = network.fuse(logits)[0]
        timer.found['instances'] = int(
            (logits.scores >= network.metadata['fusion']['score_thr']).sum()
        )
        return panoptic

    return predict


class Contender:
    """What a process of its own holds: one network and its image."""

    current: 'Contender'

    def __init__(self, name: str, folder: str, settings: argparse.Namespace) -> None:
        import cv2
        import torch

        torch.set_num_threads(settings.threads)
        cv2.setNumThreads(settings.threads)
        self.device = settings.device
        self.on_cuda = torch.device(self.device).type == 'cuda'
        self.timer = Timer(torch.cuda.synchronize if self.on_cuda else lambda: None)
        self.image = make_image(*settings.size)
        if name in OURS:
            self.predict = load_ours(folder, self.timer, self.device, **OURS[name])
        elif name == ONNX:
            self.predict = load_onnx(
                f'{folder}/model.onnx', self.timer, settings.threads, self.device
            )
        else:
            self.predict = load_mmdet(MMDET[name], self.image, self.timer, self.device)
        # Load kernels, start threads. What is compiled is so for one size.
        small = make_image(*(max(side // 4, 64) for side in settings.size))
        self.predict(self.image if name == 'ours compiled' else small)

    def measure_memory(self) -> float:
        """Predict once; MB that this takes at most over what is held before."""
        import torch

        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated() / MB
            self.predict(self.image)
            return torch.cuda.max_memory_allocated() / MB - before
        reset_peak()
        before = resident_mb()
        self.predict(self.image)
        return peak_resident_mb() - before

    def measure_time(self) -> dict:
        """Predict once; seconds of the whole and of the parts, and what was found."""
        self.timer.seconds.clear()
        start = time.perf_counter()
        self.predict(self.image)
        seconds = time.perf_counter() - start
        return {'whole': seconds, **self.timer.seconds}


def _load(*args: Any) -> None:
    Contender.current = Contender(*args)


def _measure_memory() -> float:
    return Contender.current.measure_memory()


def _measure_time() -> dict:
    return Contender.current.measure_time()


def _found() -> dict:
    return Contender.current.timer.found


def measure(names: list[str], folder: str, settings: argparse.Namespace) -> list[dict]:
    """Run the contenders in turn.

    Args:
        names: Some of ``NAMES``.
        folder: Where ``write_ours`` has written, and the exporter.
        settings: The command line.

    Returns:
        For each contender ``name``, ``median_s``, ``peak_extra_mb``, ``parts_s``, and
        the numbers of ``proposals`` and ``instances`` where there are any.
    """
    with ExitStack() as stack:
        calls = {}
        for name in names:
            pool = ProcessPoolExecutor(1, mp_context=get_context('spawn'))
            calls[name] = partial(_call, stack.enter_context(pool))
            calls[name](_load, name, folder, settings)
        memory = {name: call(_measure_memory) for name, call in calls.items()}
        runs: dict[str, list[dict]] = {name: [] for name in names}
        for _ in range(settings.repeat):
            for name, call in calls.items():
                runs[name].append(call(_measure_time))
        found = {name: call(_found) for name, call in calls.items()}

    def median(name: str, part: str) -> float:
        return round(statistics.median(run.get(part, 0.0) for run in runs[name]), 5)

    return [
        {
            'name': name,
            'median_s': median(name, 'whole'),
            'peak_extra_mb': round(memory[name], 1),
            'parts_s': {
                part: median(name, part) for part in runs[name][0] if part != 'whole'
            },
            **found[name],
        }
        for name in names
    ]


def _call(pool: ProcessPoolExecutor, function: Callable, *args: Any) -> Any:
    return pool.submit(function, *args).result()


def export_onnx(folder: str) -> str | None:
    """Export our network; returns why that cannot be, None if it was done."""
    if importlib.util.find_spec('onnxruntime') is None:
        return 'onnxruntime is not installed: pip install onnxruntime onnxscript'
    if not EXPORTER.is_file():
        return f'there is no {EXPORTER}'
    command = [sys.executable, str(EXPORTER), 'config.py', 'weights.pth']
    # Logits of random weights are scaled up to be typical, and rounding with them.
    options = ['--out', '.', '--largest-difference', '0.1']
    process = subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True
    )
    if process.returncode or not Path(folder, 'model.onnx').is_file():
        lines = (process.stderr or process.stdout).strip().splitlines() or ['']
        return f'export_onnx.py failed: {lines[-1]}'
    return None


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--config',
        default='paper',
        help=f'our network: {" or ".join(CONFIGS)}, or any config; default: paper',
    )
    parser.add_argument(
        '--size',
        type=parse_size,
        help='HEIGHTxWIDTH of the image, multiples of 32; default: 512x1024, with '
        '--config small 256x512',
    )
    parser.add_argument(
        '--only',
        nargs='+',
        choices=NAMES,
        metavar='NAME',
        help=f'run these only: {", ".join(repr(name) for name in NAMES)}',
    )
    parser.add_argument('--bf16', action='store_true', help="add 'ours prepared bf16'")
    parser.add_argument('--fp16', action='store_true', help="add 'ours prepared fp16'")
    parser.add_argument(
        '--compile', action='store_true', help="add 'ours compiled'; takes minutes"
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repeat', type=int, default=5)
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    args = parser.parse_args()
    args.config, size = CONFIGS.get(args.config, (args.config, '512x1024'))
    args.size = args.size or parse_size(size)
    return args


def main() -> None:
    """Measure every contender on the same image and report."""
    args = parse_args()
    added = zip(OPTIONAL, (args.bf16, args.fp16, args.compile), strict=True)
    left_out = [name for name, wanted in added if not wanted]
    names = [
        name
        for name in NAMES
        if (name in args.only if args.only else name not in left_out)
    ]
    with tempfile.TemporaryDirectory() as folder:
        if any(name.startswith('ours') for name in names):
            in_fresh_process(write_ours, args.config, args.size, folder)
        if ONNX in names and (problem := export_onnx(folder)):
            print(f'{ONNX} is left out: {problem}', file=sys.stderr)
            names.remove(ONNX)
        results = measure(names, folder, args)

    if args.json:
        print_json(
            'inference',
            results,
            args.threads,
            args.device,
            config=Path(args.config).stem,
            height=args.size[0],
            width=args.size[1],
            repeat=args.repeat,
        )
        return
    for row in results:
        parts = '  '.join(f'{k} {v:.3f}' for k, v in row['parts_s'].items())
        print(
            f'{row["name"]:20s} {row["median_s"]:8.3f} s '
            f'{row["peak_extra_mb"]:8.1f} MB   {parts}'
        )


if __name__ == '__main__':
    main()
