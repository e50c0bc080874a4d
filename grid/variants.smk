"""One notebook in several variants, each with several seeds; what each run left is collected.

    study -> cache -> a run a variant and seed -> tables/: results.json (variant, seed: metrics) and
    the tables of `keep`, from all runs, with columns variant and seed
"""

NOTEBOOK = ROOT / config["notebook"]
RUNS = {
    (variant, seed): OUT / f"{variant}_{seed}"
    for seed in config["seeds"]
    for variant in config["variants"]
}


wildcard_constraints:
    variant="[A-Za-z0-9_-]+",
    seed="[0-9]+",


def variant_words(wildcards):
    return words(
        {**DATA, "image_size": config["image_size"], "seed": wildcards.seed}
        | config["common"]
        | config["variants"][wildcards.variant]
    )


WANTED = TABLES / "results.json"


rule tables:
    input:
        [folder / "results.json" for folder in RUNS.values()],
    output:
        TABLES / "results.json",
    message:
        "tables"
    shell:
        "{LOCALMI} collect {OUT:q} --out {TABLES:q}"


rule variant:
    input:
        ancient(CACHE / "meta.json"),
    output:
        OUT / "{variant}_{seed}" / "results.json",
    log:
        OUT / "logs" / "{variant}_{seed}.log",
    message:
        "{wildcards.variant}, seed {wildcards.seed}"
    params:
        words=variant_words,
    shell:
        '{LOCALMI} run {NOTEBOOK:q} --once --out "$(dirname {output:q})" {params.words} '
        "> {log:q} 2>&1"
