// An equation that is wider than its slide is drawn smaller.
(() => {
  const fit = () => {
    const slide = document.querySelector(".reveal .slides");
    for (const one of document.querySelectorAll("section.present mjx-container")) {
      one.style.fontSize = "";
      const share = one.scrollWidth / slide.clientWidth;
      if (share > 0.98) one.style.setProperty("font-size", `${112 / share}%`, "important");
    }
  };
  window.addEventListener("load", async () => {
    if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
    Reveal.on("slidechanged", fit);
    fit();
  });
})();
