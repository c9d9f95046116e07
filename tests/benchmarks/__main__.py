"""``make bench``: what the daemon costs, as ratios between things measured in turn in one run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import psutil
import scipy.ndimage
import soundfile
import torch

from edgeasd.common.types import AudioBlock, Float32Array
from edgeasd.detect.alarm import AlarmSpec
from edgeasd.detect.features import FeatureSpec, FrameTransform, LogMel
from edgeasd.detect.model.network import EMBEDDING, INPUT, LOGITS, Model
from edgeasd.detect.pipeline import Pipeline
from edgeasd.detect.windows import WindowSpec, slice_windows
from tests.benchmarks.median_speed import measure_speedup
from tests.benchmarks.networks import make_network
from train.networks.model import SectionNet

RATE = 16_000
BLOCK = 512
N_ROUNDS = 9
FEATURES = FeatureSpec()
WINDOW = WindowSpec()
WINDOW_SAMPLES = FEATURES.n_samples(WINDOW.n_frames)
HOP_SAMPLES = WINDOW.hop_frames * FEATURES.hop_length


def in_turn(rounds: int, **functions: Callable[[], object]) -> dict[str, float]:
    """Return the median seconds of each function, run one after the other in every round."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - began)
    # The first round warms up.
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def librosa_log_mel(samples: Float32Array) -> Float32Array:
    """Return what librosa makes of *samples*, shape ``(n_frames, n_mels)``, dB."""
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=FEATURES.sample_rate,
        n_fft=FEATURES.n_fft,
        hop_length=FEATURES.hop_length,
        n_mels=FEATURES.n_mels,
        center=False,
    )
    values: Float32Array = librosa.power_to_db(power, amin=FEATURES.floor, top_db=None).T
    return values


def measure_window(network: SectionNet, content: bytes, sound: Float32Array) -> None:
    """Print the cost of a window in the daemon's path beside the network alone and librosa."""
    model = Model(content, "benchmark")
    windows = [
        np.ascontiguousarray(window)
        for window in slice_windows(FrameTransform(FEATURES)(sound), WINDOW)
    ]

    pipeline = Pipeline(model, 0, AlarmSpec(1e9, 1e9))

    def daemon() -> None:
        pipeline.reset()
        for start in range(0, len(sound) - BLOCK + 1, BLOCK):
            pipeline.process(AudioBlock(sound[start : start + BLOCK], start))

    def bare() -> None:
        for window in windows:
            model._session.run([EMBEDDING, LOGITS], {INPUT: window[None, None]})

    def usual() -> None:
        for index in range(len(windows)):
            samples = sound[index * HOP_SAMPLES : index * HOP_SAMPLES + WINDOW_SAMPLES]
            values = scipy.ndimage.median_filter(
                librosa_log_mel(samples), size=(WINDOW.median_frames, 1), mode="mirror"
            )
            with torch.inference_mode():
                network(torch.from_numpy(values)[None, None])

    seconds = in_turn(N_ROUNDS, daemon=daemon, bare=bare, usual=usual)
    per_window = {name: 1000 * value / len(windows) for name, value in seconds.items()}
    daemon_s, bare_s, usual_s = (seconds[name] for name in ("daemon", "bare", "usual"))
    print(f"window, network alone (session.run)        {per_window['bare']:6.2f} ms")
    print(f"window, daemon (features, median, scoring) {per_window['daemon']:6.2f} ms")
    print(f"window, librosa + scipy + torch            {per_window['usual']:6.2f} ms")
    print(f"daemon / network alone                     {daemon_s / bare_s:6.2f}   (at most 1.6)")
    print(f"librosa + scipy + torch / daemon           {usual_s / daemon_s:6.1f}   (at least 5)")


def measure_features(sound: Float32Array) -> None:
    """Print the cost of streamed features beside librosa's, which sees the whole clip at once."""

    def streamed() -> None:
        stage = LogMel(FEATURES)
        # A hop of a window at a time, as the pipeline hands it on.
        for start in range(0, len(sound) - HOP_SAMPLES + 1, HOP_SAMPLES):
            stage.process(AudioBlock(sound[start : start + HOP_SAMPLES], start))

    seconds = in_turn(N_ROUNDS, streamed=streamed, offline=lambda: librosa_log_mel(sound))
    ratio = seconds["streamed"] / seconds["offline"]
    print(f"features, streamed by window hop / librosa {ratio:6.2f}")


def measure_memory(content: bytes, sound: Float32Array) -> None:
    """Print the resident memory of daemons of one and of eight machines."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(content)
        soundfile.write(folder / "sound.wav", np.tile(sound, 2), RATE, subtype="PCM_16")
        one, eight = (_resident_mb(folder, n_machines) for n_machines in (1, 8))
    print(f"resident memory, one machine               {one:6.0f} MB (at most 200)")
    print(f"resident memory, each further of eight     {(eight - one) / 7:6.1f} MB (at most 15)")


def _resident_mb(folder: Path, n_machines: int) -> float:
    """Return the resident memory of a daemon after it has scored for some seconds."""
    machines = "".join(
        f'[[machine]]\nname = "m{index}"\nmodel = "model.onnx"\nsection = "00"\n'
        '[machine.file]\npath = "sound.wav"\n'
        for index in range(n_machines)
    )
    config = folder / f"{n_machines}.toml"
    config.write_text(f'state_dir = "state"\n[mqtt]\nhost = "127.0.0.1"\nport = 1\n{machines}')
    daemon = subprocess.Popen(
        [sys.executable, "-m", "edgeasd", "run", "--config", str(config)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    try:
        time.sleep(18.0)  # past the first score, 10 s after the start
        return float(psutil.Process(daemon.pid).memory_info().rss) / 1e6
    finally:
        daemon.terminate()
        daemon.wait(20)


def main() -> None:
    """Run all benchmarks."""
    sound = 0.1 * np.random.default_rng(0).standard_normal(30 * RATE).astype(np.float32)
    network, content = make_network()
    measure_window(network, content, sound)
    measure_features(sound)
    print(f"scipy's median filter / ours, one window   {measure_speedup():6.1f}   (at least 5)")
    measure_memory(content, sound)


if __name__ == "__main__":
    main()
