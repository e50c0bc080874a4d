// The explorer of the book: window.EXPLORER holds sentences, images, their maps and outlines.
(() => {
  const { sentences, images } = window.EXPLORER;
  const find = (name) => document.getElementById(`explorer-${name}`);
  const picture = find("picture");
  const colours = ["#F0E442", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#FFFFFF"];

  const add = (kind, attributes) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
    picture.append(shape);
    return shape;
  };

  const draw = () => {
    const image = images[find("image").value];
    const number = Number(find("sentence").value);
    const scores = image.maps[number];
    const side = Math.sqrt(scores.length);
    const [low, high] = [Math.min(...scores), Math.max(...scores)];
    picture.replaceChildren();
    add("image", { href: image.picture, width: 1, height: 1 });
    if (find("map").checked) {
      scores.forEach((score, region) => {
        add("rect", {
          x: (region % side) / side,
          y: Math.floor(region / side) / side,
          width: 1 / side,
          height: 1 / side,
          fill: "#D55E00",
          "fill-opacity": (0.65 * (score - low)) / (high - low || 1),
          stroke: score === high ? "#FFFFFF" : "none",
          "stroke-width": 0.006,
        });
      });
    }
    const findings = Object.entries(image.findings);
    if (find("truth").checked) {
      findings.forEach(([, outlines], place) => {
        for (const points of outlines) {
          const colour = colours[place % colours.length];
          add("polygon", { points: points.join(" "), fill: "none", stroke: colour, "stroke-width": 0.008 });
        }
      });
    }
    const above = Math.round(100 * image.above[number]);
    const there = findings.map(([name]) => name.replace("_", " ")).join(", ") || "nothing";
    const shown = find("truth").checked ? ` There is: ${there}.` : "";
    find("words").textContent =
      `“${sentences[number]}” scores higher here than in ${above} % of the test images.${shown}`;
    picture.setAttribute("aria-label", `A chest radiograph; the map of “${sentences[number]}”.${shown}`);
  };

  find("image").max = images.length - 1;
  sentences.forEach((text, number) => find("sentence").append(new Option(text, number)));
  find("sentence").value = 1;
  for (const name of ["image", "sentence", "map", "truth"]) find(name).addEventListener("input", draw);
  draw();
})();
