"""The words of the synthetic reports: several ways to say each statement.

Written for this project, none taken from a report. A template names exactly one finding, in words
that occur for no other one, and all attributes the statement carries; a denial names no side and
no zone; a filler names no finding at all. Slots: {side} {zone} {level} {depth} are said
attributes, {cm} and {time} are numbers without a meaning. A first letter is capitalised when the
sentence is written. Taught in 05_radiographs_and_reports.
"""

from collections.abc import Mapping

from localmi.phantom.statements import NORMAL, Statement

Templates = Mapping[tuple[str, str], tuple[str, ...]]  # (finding, variant) -> ways to say it

PRESENT: Templates = {
    ("atelectasis", ""): (
        "{side} basilar atelectasis.",
        "There is atelectasis at the {side} lung base.",
        "Band-like atelectasis is seen at the {side} lung base.",
        "Linear {side} basal atelectasis is present.",
        "Atelectatic change is noted at the {side} base.",
        "Subsegmental atelectasis at the {side} lung base.",
    ),
    ("atelectasis", "bilateral"): (
        "Bibasilar atelectasis.",
        "There is atelectasis at both lung bases.",
        "Bilateral basal atelectasis is present.",
        "Linear atelectasis is seen at both bases.",
        "Atelectatic change is noted at both lung bases.",
        "There is bilateral subsegmental atelectasis.",
    ),
    ("cardiomegaly", ""): (
        "{level} cardiomegaly.",
        "The heart is {level}ly enlarged.",
        "There is {level} cardiomegaly.",
        "There is {level} enlargement of the cardiac silhouette.",
        "The cardiac silhouette is {level}ly enlarged.",
        "The heart size shows {level} enlargement.",
    ),
    ("consolidation", ""): (
        "Dense consolidation in the {side} {zone} zone.",
        "There is consolidation in the {side} {zone} lung.",
        "Focal consolidation of the {side} {zone} zone.",
        "Airspace consolidation is seen in the {side} {zone} lung.",
        "{side} {zone} zone consolidation with air bronchograms.",
        "The {side} {zone} lung is consolidated.",
    ),
    ("edema", ""): (
        "{level} pulmonary edema.",
        "There is {level} pulmonary edema.",
        "There is {level} edema with vascular congestion.",
        "The findings show {level} pulmonary edema.",
        "Vascular congestion and {level} edema are seen.",
        "There is pulmonary edema of {level} degree.",
    ),
    ("lung_opacity", ""): (
        "Faint opacity in the {side} {zone} zone.",
        "Hazy opacity is seen in the {side} {zone} lung.",
        "There is a vague opacity in the {side} {zone} zone.",
        "Ill-defined {side} {zone} zone opacity.",
        "Ground-glass opacity projects over the {side} {zone} lung.",
        "Subtle opacification of the {side} {zone} lung.",
        "Nonspecific {side} {zone} lung opacity.",
    ),
    ("pleural_effusion", ""): (
        "{level} {side} pleural effusion.",
        "There is a {level} {side} pleural effusion.",
        "{level} {side} pleural effusion with blunting of the costophrenic angle.",
        "A {level} pleural effusion is present on the {side}.",
        "{level} {side} effusion layers along the pleura.",
        "A {level} amount of {side} pleural fluid is seen.",
    ),
    ("pleural_effusion", "bilateral"): (
        "{level} bilateral pleural effusions.",
        "There are {level} bilateral pleural effusions.",
        "Bilateral pleural effusions are {level}.",
        "{level} pleural effusions on both sides.",
        "{level} effusions blunt both costophrenic angles.",
        "{level} amounts of pleural fluid are seen on both sides.",
    ),
    ("pneumonia", ""): (
        "{side} {zone} zone pneumonia.",
        "There is pneumonia in the {side} {zone} lung.",
        "Patchy infiltrate in the {side} {zone} zone reflects pneumonia.",
        "Findings are those of {side} {zone} lung pneumonia.",
        "Infectious infiltrate in the {side} {zone} zone.",
        "Patchy pneumonia is seen in the {side} {zone} lung.",
    ),
    ("pneumothorax", ""): (
        "{level} {side} pneumothorax.",
        "There is a {level} {side} pneumothorax.",
        "A {level} {side} pneumothorax is present.",
        "There is a {level} pneumothorax on the {side}.",
        "{level} {side} pneumothorax with a visible pleural line.",
        "A pleural line marks a {level} {side} pneumothorax.",
    ),
    ("support_devices", "endotracheal tube"): (
        "Endotracheal tube tip is {cm} cm above the carina.",
        "The endotracheal tube ends {cm} cm above the carina.",
        "The endotracheal tube is in standard position.",
        "An endotracheal tube is present.",
        "The ET tube tip lies in the trachea.",
        "An ET tube projects over the trachea.",
    ),
    ("support_devices", "central venous catheter"): (
        "Central venous catheter ends in the SVC.",
        "A central venous catheter is in place.",
        "A central venous line has its tip in the SVC.",
        "The tip of the central venous catheter projects over the SVC.",
        "A central line ends at the cavoatrial junction.",
        "A central line ends {cm} cm below the carina.",
    ),
    ("support_devices", "pacemaker"): (
        "A pacemaker is in place.",
        "Pacemaker leads follow their expected course.",
        "A dual-lead pacemaker is in standard position.",
        "The pacemaker generator overlies the chest wall.",
        "There is a transvenous pacemaker with intact leads.",
        "A pacemaker is present.",
    ),
}

HEDGES = (  # {thing}: what is hedged, without an article
    "Possible {thing}.",
    "Question of {thing}.",
    "Findings may reflect {thing}.",
    "{thing} cannot be excluded.",
    "Equivocal appearance of {thing}.",
)

HEDGED: Mapping[tuple[str, str], str] = {
    ("atelectasis", ""): "{side} basilar atelectasis",
    ("atelectasis", "bilateral"): "bilateral basilar atelectasis",
    ("cardiomegaly", ""): "{level} cardiomegaly",
    ("consolidation", ""): "{side} {zone} zone consolidation",
    ("edema", ""): "{level} pulmonary edema",
    ("lung_opacity", ""): "{side} {zone} zone opacity",
    ("pleural_effusion", ""): "{level} {side} pleural effusion",
    ("pleural_effusion", "bilateral"): "{level} bilateral pleural effusions",
    ("pneumonia", ""): "{side} {zone} zone pneumonia",
    ("pneumothorax", ""): "{level} {side} pneumothorax",
    ("support_devices", "endotracheal tube"): "endotracheal tube",
    ("support_devices", "central venous catheter"): "central venous catheter",
    ("support_devices", "pacemaker"): "pacemaker",
}

ABSENT: Templates = {
    ("atelectasis", ""): (
        "No atelectasis.",
        "There is no atelectasis.",
        "No atelectasis is seen at the lung bases.",
        "There is no atelectatic band at the bases.",
        "The lung bases are expanded without atelectasis.",
        "There is no evidence of significant atelectasis.",
    ),
    ("cardiomegaly", ""): (
        "The heart is normal in size.",
        "Heart size is normal.",
        "There is no evidence of cardiomegaly.",
        "The cardiac silhouette is not enlarged.",
        "The cardiac silhouette is of normal size.",
        "The heart is not enlarged on this examination.",
    ),
    ("consolidation", ""): (
        "No focal consolidation.",
        "There is no focal consolidation.",
        "No airspace consolidation is seen in the lungs.",
        "The lungs are aerated without consolidation.",
        "There is no evidence of lobar consolidation.",
        "No confluent airspace consolidation is identified.",
    ),
    ("edema", ""): (
        "No pulmonary edema.",
        "There is no overt pulmonary edema.",
        "There is no edema or vascular congestion.",
        "The pulmonary vessels are sharp without edema.",
        "There is no evidence of pulmonary edema.",
        "No interstitial edema is seen on this study.",
    ),
    ("lung_opacity", ""): (
        "No focal lung opacity.",
        "The lungs are free of focal opacity.",
        "There is no lung opacity.",
        "No hazy opacity is seen in the lungs.",
        "There is no abnormal opacification of the lungs.",
        "The lungs are well expanded without focal opacity.",
    ),
    ("pleural_effusion", ""): (
        "No pleural effusion.",
        "There is no pleural effusion.",
        "No sizeable pleural effusion is seen.",
        "The costophrenic angles are sharp without effusion.",
        "There is no evidence of pleural fluid.",
        "No pleural effusion is identified on this study.",
    ),
    ("pneumonia", ""): (
        "No pneumonia.",
        "There is no pneumonia.",
        "There is no radiographic evidence of pneumonia.",
        "No infectious infiltrate is seen in the lungs.",
        "No convincing sign of pneumonia is identified.",
        "There is no evidence of an infectious process.",
    ),
    ("pneumothorax", ""): (
        "No pneumothorax.",
        "There is no pneumothorax.",
        "No pneumothorax is seen on this view.",
        "There is no evidence of pneumothorax.",
        "There is no visible pneumothorax.",
        "No pneumothorax is identified on this study.",
    ),
    ("support_devices", ""): (
        "No support devices are in place.",
        "No lines or tubes are seen.",
        "There is no indwelling support device.",
        "There are no support devices on this image.",
        "There are no lines, tubes or pacemaker.",
        "No monitoring or support devices are seen.",
    ),
}

NO_PROCESS = (
    "No acute cardiopulmonary process.",
    "There is no acute cardiopulmonary abnormality.",
    "No acute intrathoracic process is identified.",
    "Normal chest radiograph.",
    "Unremarkable chest radiograph.",
    "No acute cardiopulmonary disease is seen.",
    "Normal radiographic appearance of the chest.",
)

FILLERS = (
    "Osseous structures are intact.",
    "No acute osseous abnormality is seen.",
    "The bony thorax is unremarkable.",
    "Degenerative changes are seen in the thoracic spine.",
    "Degenerative change is most marked at T12.",
    "The bones are diffusely demineralised.",
    "Minor thoracic scoliosis is noted.",
    "The imaged shoulders show degenerative change.",
    "The soft tissues are unremarkable.",
    "The visualised abdomen is unremarkable.",
    "There is no free air below the diaphragm.",
    "The bowel gas pattern is normal.",
    "The trachea is midline.",
    "The mediastinal contours are normal.",
    "The hilar contours are unremarkable.",
    "The thoracic aorta is tortuous.",
    "An aortic calcification measures {cm} cm.",
    "Surgical clips project over the abdomen.",
    "Calcified lymph nodes measure up to {cm} x {cm} cm.",
    "A granuloma of {cm} mm is of no concern.",
    "A frontal view of the chest was obtained.",
    "A single frontal radiograph is submitted for review.",
    "The patient is slightly rotated.",
    "Lung volumes are adequate.",
    "The degree of inspiration is adequate.",
    "Evaluation is limited by body habitus.",
    "The exposure of the image is satisfactory.",
    "The image is of diagnostic quality throughout.",
    "Comparison is made with the study of ___.",
    "There has been no relevant change since ___.",
    "Discussed with Dr. ___ at {time} p.m., by telephone.",
    "Further imaging is for Dr. ___ to decide.",
)


def templates(statement: Statement) -> tuple[str, ...]:
    """All ways to say a statement; which one is taken is independent of everything."""
    if statement.finding is None:
        return FILLERS
    if statement.finding == NORMAL:
        return NO_PROCESS
    if statement.polarity == "absent":
        return ABSENT[statement.finding, ""]
    said = statement.attributes
    variant = "bilateral" if said.get("side") == "bilateral" else said.get("kind", "")
    if statement.polarity == "present":
        ways = PRESENT[statement.finding, variant]
        return tuple(f"{way[:-1]}, {{depth}}ly." for way in ways) if "depth" in said else ways
    depth = "{depth} " if "depth" in said else ""
    thing = depth + HEDGED[statement.finding, variant]
    return tuple(hedge.format(thing=thing) for hedge in HEDGES)
