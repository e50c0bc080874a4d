"""The paper's Tables 2 and 3: AUCs on MIMIC-CXR as printed, under this course's names.

Source: Liao et al. 2021, https://doi.org/10.1007/978-3-030-87196-3_26. Its Table 1 is
`localmi.data.labels.TABLE_1`. Taught in 10_the_papers_tables.
"""

import pandas as pd

from localmi.downstream.tables_text import IMAGE_ONLY
from localmi.evaluate.edema import EDEMA_TASKS

ROWS = ("global-frozen", "global-tuned", "local-frozen", "local-tuned")
AUCS: dict[str, tuple[float, str, str]] = {  # image-only, then CPC and MINE of each of `ROWS`
    EDEMA_TASKS[0]: (0.80, ".81 .81 .77 .87", ".83 .82 .76 .83"),
    EDEMA_TASKS[1]: (0.71, ".77 .79 .72 .83", ".78 .81 .76 .85"),
    EDEMA_TASKS[2]: (0.90, ".93 .93 .75 .97", ".89 .93 .86 .93"),
    "Atelectasis": (0.76, ".65 .74 .74 .73", ".63 .77 .61 .86"),
    "Cardiomegaly": (0.71, ".79 .81 .73 .82", ".79 .81 .77 .84"),
    "Consolidation": (0.78, ".67 .81 .65 .83", ".65 .82 .65 .83"),
    "Edema": (0.89, ".81 .87 .78 .89", ".81 .88 .80 .89"),
    "Lung Opacity": (0.86, ".69 .83 .66 .82", ".68 .84 .69 .88"),
    "Pleural Effusion": (0.69, ".74 .90 .69 .92", ".74 .90 .72 .92"),
    "Pneumonia": (0.75, ".71 .75 .61 .78", ".70 .76 .66 .79"),
    "Pneumothorax": (0.65, ".65 .75 .70 .79", ".66 .77 .67 .76"),
    "Support Devices": (0.72, ".70 .77 .72 .87", ".68 .79 .74 .81"),
}


def paper_aucs() -> pd.DataFrame:
    """Tables 2 and 3: columns task, finding, variant, auc; 9 variants x (3 + 9) AUCs.

    CPC, as the paper calls its bound, is `infonce`. No interval: the paper prints none.
    """
    rows = []
    for finding, (image_only, *bounds) in AUCS.items():
        task = "edema" if finding in EDEMA_TASKS else "pathology9"
        rows.append((task, finding, IMAGE_ONLY, image_only))
        for bound, printed in zip(("infonce", "mine"), bounds, strict=True):
            for row, auc in zip(ROWS, printed.split(), strict=True):
                objective, mode = row.split("-")
                rows.append((task, finding, f"{objective}-{bound}-{mode}", float(auc)))
    return pd.DataFrame(rows, columns=["task", "finding", "variant", "auc"])
