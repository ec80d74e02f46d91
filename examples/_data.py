# SPDX-License-Identifier: BSD-3-Clause
"""Two tables that the examples share: from OpenML, or from the folder named by SKSMOOTH_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import fetch_openml

ADULT_COLUMNS = (
    "age workclass fnlwgt education education-num marital-status occupation relationship race sex "
    "capital-gain capital-loss hours-per-week native-country class"
).split()


def load_adult():
    """Return 48,842 people of the census of 1994 (or its 32,561 training rows), and who earns."""
    path = Path(os.environ.get("SKSMOOTH_DATA", "")) / "adult" / "adult.data.gz"
    if os.environ.get("SKSMOOTH_DATA") and path.is_file():
        frame = pd.read_csv(path, names=ADULT_COLUMNS, sep=", ", engine="python", na_values="?")
    else:
        frame = fetch_openml("adult", version=2, as_frame=True).frame
    y = np.where(frame["class"] == ">50K", "above 50K", "below 50K")
    return frame.drop(columns=["class", "fnlwgt"]), y


def load_phishing():
    """Return 11,055 web sites as 30 features of the values -1, 0 and 1, and what they are."""
    folder = Path(os.environ.get("SKSMOOTH_DATA", "")) / "phishing"
    if os.environ.get("SKSMOOTH_DATA") and folder.is_dir():
        names = (folder / "columns.txt").read_text().split()
        frame = pd.read_csv(folder / "phishing.csv.gz", names=names)
        X, y = frame.iloc[:, :-1], frame.iloc[:, -1]
    else:
        X, y = fetch_openml(data_id=4534, as_frame=True, return_X_y=True)
    return X.astype(int), np.where(y.astype(int) == 1, "honest", "phishing")
