"""Mutual information from scores: bounds, critics, regions; nothing of images."""

from localmi.lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "bounds": "MINE dv dv_terms infonce infonce_cap infonce_terms",
        "unnormalised": "interpolated nwj tuba",
        "density_ratio": "demi js_objective smile",
        "estimators": "ESTIMATORS EstimatorInTraining",
        "critics": "BilinearCritic ConcatCritic SeparableCritic build_critic",
        "quadratic": "QuadraticCritic",
        "selection": "select_regions",
        "scores": "may_mismatch",
        "samples.estimate": "estimate",
        "samples.baselines": "gaussian_mi histogram_mi ksg",
        "samples.resampling": "extrapolate permutation_null",
        "samples.generative": "ba_terms doe_terms",
        "samples.fitting": "Training fit fit_critic",
        "samples.inputs": "split",
    },
)
