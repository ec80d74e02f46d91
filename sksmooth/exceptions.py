# SPDX-License-Identifier: BSD-3-Clause
"""Every error and warning class of the package.

The tree, with the built-in class that each one also is::

    SksmoothError                       (Exception)
    ├── InvalidBoundError               (ValueError)
    ├── TooFewDrawsError                (ValueError)
    ├── MissingExtraError               (ImportError)
    ├── CheckpointError                 (OSError)
    ├── DatasetError                    (OSError)
    ├── LostWorkersError                (RuntimeError)
    ├── DigestError                     (TypeError)
    └── NotCertifiableError             (TypeError)
    SksmoothWarning                     (UserWarning)
    ├── CheckpointWarning
    ├── FailedMembersWarning
    ├── LostWorkersWarning
    ├── OptionalStoppingWarning
    ├── OtherVersionWarning
    ├── SequentialTrainingWarning
    ├── SharedDeviceWarning
    ├── UncoveredParameterWarning
    └── UncoveredPreprocessingWarning

Each error is also a built-in one, so code that catches ``ValueError`` or ``ImportError`` needs to
import nothing from here. Where scikit-learn raises a plain ``ValueError`` or ``TypeError`` for the
same mistake (a parameter out of range, an array of the wrong shape), so does this package.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "CheckpointWarning",
    "DatasetError",
    "DigestError",
    "FailedMembersWarning",
    "InvalidBoundError",
    "LostWorkersError",
    "LostWorkersWarning",
    "MissingExtraError",
    "NotCertifiableError",
    "OptionalStoppingWarning",
    "OtherVersionWarning",
    "SequentialTrainingWarning",
    "SharedDeviceWarning",
    "SksmoothError",
    "SksmoothWarning",
    "TooFewDrawsError",
    "UncoveredParameterWarning",
    "UncoveredPreprocessingWarning",
]


class SksmoothError(Exception):
    """Base class of the errors that this package raises itself.

    Examples
    --------
    >>> from sksmooth.exceptions import SksmoothError, TooFewDrawsError
    >>> issubclass(TooFewDrawsError, SksmoothError)
    True
    """


class InvalidBoundError(SksmoothError, ValueError):
    """A probability bound from which no radius can be computed.

    Raised for a bound outside [0, 1], for one that is not a number, and for a logarithm of a tail
    that is minus infinity: a tail without a positive floor would claim an infinite radius.

    Examples
    --------
    >>> from sksmooth.exceptions import InvalidBoundError
    >>> issubclass(InvalidBoundError, ValueError)
    True
    """


class TooFewDrawsError(SksmoothError, ValueError):
    """Too few members or noise draws for the confidence level asked for.

    At that level not even unanimous votes would certify a row. The message says how many draws
    are needed.

    Attributes
    ----------
    n_needed : int or None
        That number.

    Examples
    --------
    >>> from sksmooth.exceptions import TooFewDrawsError
    >>> issubclass(TooFewDrawsError, ValueError)
    True
    """

    n_needed: int | None = None


class MissingExtraError(SksmoothError, ImportError):
    """An optional dependency is absent; the message names the extra that installs it.

    Examples
    --------
    >>> from sksmooth.exceptions import MissingExtraError
    >>> issubclass(MissingExtraError, ImportError)
    True
    """


class CheckpointError(SksmoothError, OSError):
    """A `checkpoint_dir` holds members of another fit, or cannot be read or written.

    Nothing that lies there is changed; the message says what differs, or what failed.

    Examples
    --------
    >>> from sksmooth.exceptions import CheckpointError
    >>> issubclass(CheckpointError, OSError)
    True
    """


class DatasetError(SksmoothError, OSError):
    """A data set could not be found, read or fetched, or is not the one expected.

    Examples
    --------
    >>> from sksmooth.exceptions import DatasetError
    >>> issubclass(DatasetError, OSError)
    True
    """


class DigestError(SksmoothError, TypeError):
    """Something inside a trained model has no state from which a digest could be computed.

    The message names the place inside the model.

    Examples
    --------
    >>> from sksmooth.exceptions import DigestError
    >>> issubclass(DigestError, TypeError)
    True
    """


class LostWorkersError(SksmoothError, RuntimeError):
    """Worker processes died again and again, or cannot do the work.

    The message says how many tasks have no answer, or what the workers lack.

    Examples
    --------
    >>> from sksmooth.exceptions import LostWorkersError
    >>> issubclass(LostWorkersError, RuntimeError)
    True
    """


class NotCertifiableError(SksmoothError, TypeError):
    """The object given, whatever it wraps included, has no certificate to offer.

    Examples
    --------
    >>> from sksmooth.exceptions import NotCertifiableError
    >>> issubclass(NotCertifiableError, TypeError)
    True
    """


class SksmoothWarning(UserWarning):
    """Base class of the warnings that this package issues itself.

    Examples
    --------
    >>> from sksmooth.exceptions import SksmoothWarning
    >>> issubclass(SksmoothWarning, UserWarning)
    True
    """


class CheckpointWarning(SksmoothWarning):
    """A stored member is damaged and is trained again.

    Examples
    --------
    >>> from sksmooth.exceptions import CheckpointWarning, SksmoothWarning
    >>> issubclass(CheckpointWarning, SksmoothWarning)
    True
    """


class FailedMembersWarning(SksmoothWarning):
    """Some members of an ensemble failed to train.

    They count as drawn and vote for nobody, so certificates stay valid and become smaller.

    Examples
    --------
    >>> from sksmooth.exceptions import FailedMembersWarning, SksmoothWarning
    >>> issubclass(FailedMembersWarning, SksmoothWarning)
    True
    """


class LostWorkersWarning(SksmoothWarning):
    """A worker process died; what it had not finished is done again.

    Examples
    --------
    >>> from sksmooth.exceptions import LostWorkersWarning, SksmoothWarning
    >>> issubclass(LostWorkersWarning, SksmoothWarning)
    True
    """


class OptionalStoppingWarning(SksmoothWarning):
    """An ensemble that grew is certified by a bound for a number of members fixed beforehand.

    Whoever looks at the votes and trains more members until they please gives such a bound more
    chances to be wrong than it was made for. A confidence sequence (``bound="anytime"``) holds.

    Examples
    --------
    >>> from sksmooth.exceptions import OptionalStoppingWarning, SksmoothWarning
    >>> issubclass(OptionalStoppingWarning, SksmoothWarning)
    True
    """


class OtherVersionWarning(SksmoothWarning):
    """A stored model was made by another version of this package.

    What it certifies may differ from what the version that made it would certify.

    Examples
    --------
    >>> from sksmooth.exceptions import OtherVersionWarning, SksmoothWarning
    >>> issubclass(OtherVersionWarning, SksmoothWarning)
    True
    """


class SequentialTrainingWarning(SksmoothWarning):
    """Networks that could have been trained many at once are trained one by one; it says why.

    Examples
    --------
    >>> from sksmooth.exceptions import SequentialTrainingWarning, SksmoothWarning
    >>> issubclass(SequentialTrainingWarning, SksmoothWarning)
    True
    """


class SharedDeviceWarning(SksmoothWarning):
    """Several processes were asked for, which would compete for one GPU; one is used.

    Examples
    --------
    >>> from sksmooth.exceptions import SharedDeviceWarning, SksmoothWarning
    >>> issubclass(SharedDeviceWarning, SksmoothWarning)
    True
    """


class UncoveredParameterWarning(SksmoothWarning):
    """A parameter was computed from data that is under attack.

    The certificate takes the parameter as fixed. It moves with the data that an attacker may
    change, and the certificate does not cover this movement.

    Examples
    --------
    >>> from sksmooth.exceptions import SksmoothWarning, UncoveredParameterWarning
    >>> issubclass(UncoveredParameterWarning, SksmoothWarning)
    True
    """


class UncoveredPreprocessingWarning(SksmoothWarning):
    """A step outside the certified estimator learned from data that is under attack.

    The certificate speaks of what reaches the estimator. A scaler, selector or encoder fitted in
    front of it on data that an attacker could touch moves with that data, and the certificate
    does not cover this movement.

    Examples
    --------
    >>> from sksmooth.exceptions import SksmoothWarning, UncoveredPreprocessingWarning
    >>> issubclass(UncoveredPreprocessingWarning, SksmoothWarning)
    True
    """
