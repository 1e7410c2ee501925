"""For `torchrun`: the tiny run of conftest.py in a folder, cut over its processes."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    make_trainer = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["make_trainer"]
    trainer = make_trainer(Path(sys.argv[1]))
    assert trainer.accelerator.num_processes == 2
    trainer.run(lambda stage, step, loss: None)
    trainer.accelerator.end_training()
