"""A model that leaves everything behind that a model can leave behind."""

import logging
import os
import random
import signal
import sys
import tempfile
import threading
import warnings

import numpy as np


def run(params):
    os.chdir("/")
    os.environ["MESSY"] = "1"
    os.environ["PATH"] = "/nowhere"
    os.environ.pop("ADLB_RANK_SELF", None)
    sys.argv = ["messy", "--epochs", "1"]
    sys.path.insert(0, "/nowhere")
    sys.path = list(sys.path)
    log_file = params["instance_directory"] + "/messy.log"
    for name in (None, "RUNNER", "messy"):
        logger = logging.getLogger(name)
        logger.addHandler(logging.FileHandler(log_file))
        logger.setLevel(logging.CRITICAL)
    logging.getLogger("part.of.messy")  # "part" is no logger then
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    warnings.showwarning = print
    random.seed(1)
    np.random.seed(1)
    np.seterr(all="raise")
    os.umask(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 3600)
    tempfile.tempdir = "/nowhere"
    sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for descriptor in (1, 2):
        os.dup2(sys.stdout.fileno(), descriptor)
    threading.Thread(target=threading.Event().wait, name="straggler", daemon=True).start()
    return 0.25
