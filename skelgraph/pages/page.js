"use strict";
// Moves the skeletons: only those in sight, and not at all where the reader has asked for less motion.
(() => {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const sides = ["mid", "left", "right"];

  const prepare = (section) => {
    const data = JSON.parse(section.querySelector("script.motion").textContent);
    const pictures = [...section.querySelectorAll("svg.skeleton")].map((svg, i) => ({
      svg,
      ...data.clips[i],
      paths: sides.map((side) => svg.querySelector("path." + side)),
      ring: svg.querySelector("path.ring"),
      shown: -1,
      seen: false,
    }));
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) pictures.find((p) => p.svg === entry.target).seen = entry.isIntersecting;
    });
    pictures.forEach((picture) => watch.observe(picture.svg));
    return { data, pictures };
  };

  const draw = ({ edges, joints }, picture, frame) => {
    const points = picture.frames[frame];
    const strokes = ["", "", ""];
    for (let start = 0; start < points.length / 2; start += joints) {
      for (const [a, b, side] of edges) {
        const x = points[2 * (start + a)], u = points[2 * (start + b)];
        if (x < 0 || u < 0) continue;
        strokes[side] += `M${x} ${points[2 * (start + a) + 1]}L${u} ${points[2 * (start + b) + 1]}`;
      }
    }
    picture.paths.forEach((path, side) => path.setAttribute("d", strokes[side]));
    if (picture.ring) {
      const x = points[2 * picture.mark], y = points[2 * picture.mark + 1];
      picture.ring.setAttribute("d", x < 0 ? "" : `M${x} ${y}m-38 0a38 38 0 1 0 76 0a38 38 0 1 0 -76 0z`);
    }
    picture.shown = frame;
  };

  for (const section of document.querySelectorAll(".clips")) {
    if (!section.querySelector("script.motion")) continue;
    const { data, pictures } = prepare(section);
    const button = section.querySelector("button.play");
    let moving = !still;
    const tell = () => { button.textContent = moving ? "Pause" : "Play"; };
    const step = (now) => {
      if (!moving) return;
      for (const picture of pictures) {
        const frame = Math.floor(now / picture.ms) % picture.frames.length;
        if (picture.seen && frame !== picture.shown) draw(data, picture, frame);
      }
      requestAnimationFrame(step);
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      moving = !moving;
      tell();
      if (moving) requestAnimationFrame(step);
    });
    tell();
    requestAnimationFrame(step);
  }
})();
