"""The paper's grid: {image-only} and {global, local} x {CPC, MINE} x {frozen, tuned}, per task;
beside it a linear probe of each encoder, and of one with random weights.

    study -> cache -> 4 pretrainings a seed (notebook 07) -> 14 variants a task, share of the labels
    and seed (notebook 08) -> one set of tables
"""

PRETRAIN = ROOT / "notebooks" / "07_train_local_mi.ipynb"
DOWNSTREAM = ROOT / "notebooks" / "08_downstream_tasks.ipynb"

FRACTIONS = settings["fractions"]
ENCODERS = [f"{name}-{bound}" for name in config["objectives"] for bound in config["bounds"]]
IMAGE_ONLY, RANDOM = "image-only", "random-probe"
VARIANTS = [IMAGE_ONLY, RANDOM, *(f"{name}-{mode}" for name in ENCODERS for mode in config["modes"])]


wildcard_constraints:
    objective="[a-z]+",
    bound="[a-z]+",
    task="[a-z0-9]+",
    variant="[a-z-]+",
    fraction="[0-9.e-]+",
    seed="[0-9]+",


def pretrain_words(wildcards):
    whole = config.get("pretrain_file")  # of parameters, from the repository's folder
    return (f"-f {shlex.quote(str(ROOT / whole))} " if whole else "") + words(
        {"objective": wildcards.objective, "bound": wildcards.bound, "seed": wildcards.seed}
        | {"image_size": config["image_size"], **DATA}
        | config["pretrain"]
        | config["objectives"][wildcards.objective]
        | config["bounds"][wildcards.bound]
    )


def pretraining(wildcards):
    """The folder of the run that a variant starts from; None where it starts from none."""
    if wildcards.variant in (IMAGE_ONLY, RANDOM):
        return None
    encoder, _, _ = wildcards.variant.rpartition("-")
    return OUT / f"pretrain_{encoder}_{wildcards.seed}"


def pretrained(wildcards):
    folder = pretraining(wildcards)
    return [folder / "results.json"] if folder else []


def downstream_words(wildcards):
    folder, (_, _, mode) = pretraining(wildcards), wildcards.variant.rpartition("-")
    start = {}
    if wildcards.variant != IMAGE_ONLY:
        start = {"init": folder / "checkpoint.pt" if folder else "random", "mode": mode}
    return words(
        {"task": wildcards.task, "fraction": wildcards.fraction, "seed": wildcards.seed, **start}
        | {"data_dir": CACHE, "image_size": config["image_size"]}
        | config["downstream"]
        | FRACTIONS[wildcards.fraction]
        | (config["modes"][mode] if start else config["image_only"])
    )


# --- The runs ------------------------------------------------------------------------------------


RESULTS = [
    OUT / f"{task}_{variant}_{fraction}_{seed}" / "results.json"
    for seed in config["seeds"]
    for fraction in FRACTIONS
    for task in config["tasks"]
    for variant in VARIANTS
]


WANTED = [*RESULTS, TABLES / "tables.md"]  # RESULTS, so that a run that is missing is made


rule tables:
    input:
        RESULTS,
    output:
        TABLES / "tables.md",
    log:
        OUT / "logs" / "tables.log",
    message:
        "tables"
    threads: 2
    shell:
        "{LOCALMI} tables {OUT:q} --out {TABLES:q} --data-dir {CACHE:q} --workers {threads} "
        "> {log:q} 2>&1 "
        "&& cat {output:q}"


rule pretrain:
    input:
        ancient(CACHE / "meta.json"),
    output:
        OUT / "pretrain_{objective}-{bound}_{seed}" / "results.json",
    log:
        OUT / "logs" / "pretrain_{objective}-{bound}_{seed}.log",
    message:
        "pretrain {wildcards.objective} {wildcards.bound}, seed {wildcards.seed}"
    priority: 1  # the others wait for these
    params:
        words=pretrain_words,
    shell:
        '{LOCALMI} run {PRETRAIN:q} --once --out "$(dirname {output:q})" {params.words} '
        "> {log:q} 2>&1"


rule downstream:
    input:
        ancient(CACHE / "meta.json"),
        ancient(pretrained),
    output:
        OUT / "{task}_{variant}_{fraction}_{seed}" / "results.json",
    log:
        OUT / "logs" / "{task}_{variant}_{fraction}_{seed}.log",
    message:
        "{wildcards.task} {wildcards.variant}, labels {wildcards.fraction}, seed {wildcards.seed}"
    params:
        words=downstream_words,
    shell:
        '{LOCALMI} run {DOWNSTREAM:q} --once --out "$(dirname {output:q})" {params.words} '
        "> {log:q} 2>&1"
