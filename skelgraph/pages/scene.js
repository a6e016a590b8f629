// Scenes: skeletons that play, scrub and turn, with joints coloured by values. See pages/scene.py for the data.
(() => {
  const HIDDEN = 99999, REACH = 1000, STRIP = 8;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colours = () => Object.fromEntries(
    ["ink", "soft", "rule", "faint", "paper", "accent", "second"].map((name) => [name, paint("--" + name)]));

  const fit = (canvas, height) => {
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    return [pen, width, height];
  };

  const element = (kind, parent, style, words) => {
    const made = document.createElement(kind);
    if (style) made.className = style;
    if (words) made.textContent = words;
    parent.append(made);
    return made;
  };

  const decoded = (item) => {
    const raw = atob(item.bytes), size = item.width * item.height, count = raw.length / (size * item.channels);
    return Array.from({ length: count }, (_, f) => {
      const image = new ImageData(item.width, item.height);
      for (let i = 0; i < size; i++) {
        for (let c = 0; c < 3; c++) {
          image.data[4 * i + c] = raw.charCodeAt((f * size + i) * item.channels + (item.channels === 3 ? c : 0));
        }
        image.data[4 * i + 3] = 255;
      }
      return image;
    });
  };

  const begin = (root) => {
    const data = JSON.parse(root.querySelector("script.motion").textContent);
    const find = (name) => root.querySelector(name);
    const body = find("canvas.body"), seek = find(".seek"), run = find(".run"), clock = find(".clock");
    const picker = find(".layer"), legend = find(".legend"), beside = find(".beside");
    const V = data.joints.length, M = data.persons, D = data.flat ? 2 : 3, F = data.frames.length;
    const state = { frame: 0, yaw: 0, pitch: data.flat ? 0 : 0.12, layer: data.layers.length ? 0 : -1, moving: !still, time: 0 };
    let ink = colours();

    // ---- the skeleton ----
    const project = (frame, width, height) => {
      const row = data.frames[frame], scale = 0.45 * Math.min(width, height) / REACH;
      const [cy, sy, cp, sp] = [Math.cos(state.yaw), Math.sin(state.yaw), Math.cos(state.pitch), Math.sin(state.pitch)];
      const points = [];
      for (let i = 0; i < M * V; i++) {
        const x = row[D * i], y = row[D * i + 1], z = D === 3 ? row[D * i + 2] : 0;
        if (x === HIDDEN) { points.push(null); continue; }
        const across = cy * x + sy * z, deep = cy * z - sy * x;
        points.push([width / 2 + across * scale, height / 2 - (cp * y - sp * deep) * scale, sp * y + cp * deep]);
      }
      return points;
    };
    const value = (frame, joint) => (state.layer < 0 ? 0 : data.layers[state.layer].values[frame][joint] / 100);
    const skeleton = (pen, frame, width, height, thick) => {
      const points = project(frame, width, height), plain = state.layer < 0;
      const strokes = [ink.ink, ink.accent, ink.second];
      const pieces = [];
      for (let m = 0; m < M; m++) {
        for (const [a, b, side] of data.edges) {
          const p = points[m * V + a], q = points[m * V + b];
          if (p && q) pieces.push([(p[2] + q[2]) / 2, p, q, plain ? strokes[side] : ink.soft]);
        }
      }
      pen.lineCap = "round";
      for (const [, p, q, stroke] of pieces.sort((one, two) => one[0] - two[0])) {
        pen.strokeStyle = stroke;
        pen.globalAlpha = plain ? 1 : 0.55;
        pen.lineWidth = plain ? thick : 0.6 * thick;
        pen.beginPath();
        pen.moveTo(p[0], p[1]);
        pen.lineTo(q[0], q[1]);
        pen.stroke();
      }
      pen.globalAlpha = 1;
      points.forEach((p, i) => {
        if (!p) return;
        const v = value(frame, i), strong = Math.min(1, Math.abs(v));
        pen.beginPath();
        pen.arc(p[0], p[1], plain ? 0.6 * thick : thick * (0.4 + (thick < 3 ? 0.9 : 1.6) * strong), 0, 7);
        pen.fillStyle = plain ? ink.ink : ink.soft;
        pen.fill();
        if (!plain) {
          pen.globalAlpha = Math.sqrt(strong);
          pen.fillStyle = v < 0 ? ink.accent : ink.second;
          pen.fill();
          pen.globalAlpha = 1;
        }
      });
    };
    const drawBody = () => {
      const [pen, width, height] = fit(body, body.clientHeight);
      skeleton(pen, state.frame, width, height, Math.max(3, Math.min(width, height) / 90));
    };

    // ---- beside it: film strip, values of all joints, curves ----
    const panels = [];
    const panel = (title, height, draw) => {
      const figure = element("figure", beside);
      const canvas = element("canvas", figure);
      const caption = element("figcaption", figure, "", title);
      const there = (event) => {
        const box = canvas.getBoundingClientRect(), left = canvas.margin || 0;
        show(Math.floor((event.clientX - box.left - left) / (box.width - left) * F));
      };
      canvas.addEventListener("pointerdown", (event) => { stop(); there(event); });
      canvas.addEventListener("pointermove", (event) => { if (event.buttons) there(event); });
      panels.push(() => {
        canvas.style.height = height + "px";
        draw(...fit(canvas, height), canvas, caption);
      });
    };
    const cursor = (pen, left, width, height) => {
      pen.fillStyle = ink.ink;
      pen.fillRect(left + (state.frame + 0.5) / F * (width - left) - 0.75, 0, 1.5, height);
    };
    panel("Film strip", 110, (pen, width, height) => {
      const count = Math.min(STRIP, F, Math.max(3, Math.floor(width / 84)));
      for (let i = 0; i < count; i++) {
        pen.save();
        pen.translate(i * width / count, 0);
        skeleton(pen, Math.floor((i + 0.5) * F / count), width / count, height, 2.4);
        pen.restore();
      }
    });
    if (data.layers.length) {
      const cell = Math.max(3, Math.min(13, 420 / (M * V)));
      panel("", cell * M * V, (pen, width, height, canvas, caption) => {
        const named = cell >= 9, left = named ? Math.min(110, width * 0.3) : 0, layer = data.layers[Math.max(0, state.layer)];
        canvas.margin = left;
        caption.textContent = `${layer.name}: every joint (rows) over time` + (M > 1 ? `; ${M} persons, one below the other` : "");
        pen.font = `${Math.min(11, cell)}px system-ui, sans-serif`;
        pen.textBaseline = "middle";
        for (let j = 0; j < M * V; j++) {
          if (named) {
            pen.globalAlpha = 1;
            pen.fillStyle = ink.soft;
            pen.fillText(data.joints[j % V].replaceAll("_", " "), 0, (j + 0.5) * cell, left - 6);
          }
          for (let f = 0; f < F; f++) {
            const v = layer.values[f][j] / 100;
            if (!v || data.frames[f][D * j] === HIDDEN) continue;
            pen.globalAlpha = Math.sqrt(Math.min(1, Math.abs(v)));
            pen.fillStyle = v < 0 ? ink.accent : ink.second;
            pen.fillRect(left + f / F * (width - left), j * cell, (width - left) / F + 0.4, cell - (cell > 5 ? 1 : 0));
          }
        }
        pen.globalAlpha = 1;
        cursor(pen, left, width, height);
      });
    }
    for (const track of data.tracks) {
      panel(`${track.name}; top ${track.top}`, 56, (pen, width, height) => {
        pen.fillStyle = ink.rule;
        pen.fillRect(0, height - 1, width, 1);
        pen.strokeStyle = ink.second;
        pen.lineWidth = 1.6;
        pen.beginPath();
        track.values.forEach(([v], f) => pen.lineTo((f + 0.5) / F * width, height - 3 - v / 1000 * (height - 8)));
        pen.stroke();
        cursor(pen, 0, width, height);
      });
    }
    const views = data.pictures.map((item) => {
      const figure = element("figure", find(".pictures"));
      const canvas = element("canvas", figure);
      element("figcaption", figure, "", item.name);
      canvas.width = 4 * item.width;
      canvas.height = 4 * item.height;
      const small = new OffscreenCanvas(item.width, item.height), images = decoded(item);
      return () => {
        const pen = canvas.getContext("2d");
        small.getContext("2d").putImageData(images[state.frame], 0, 0);
        pen.imageSmoothingEnabled = false;
        pen.drawImage(small, 0, 0, canvas.width, canvas.height);
        const points = item.points[state.frame] || [];
        for (let i = 0; i < points.length; i += 3) {
          const x = points[i] / 1000 * canvas.width, y = points[i + 1] / 1000 * canvas.height, w = points[i + 2] / 1000;
          pen.beginPath();
          pen.arc(x, y, 2 + 6 * w, 0, 7);
          pen.fillStyle = "#ff8a1f";
          pen.globalAlpha = 0.35 + 0.65 * w;
          pen.fill();
          pen.globalAlpha = 1;
          pen.strokeStyle = "#000";
          pen.lineWidth = 1;
          pen.stroke();
        }
      };
    });

    // ---- what the controls do ----
    const explain = () => {
      legend.replaceChildren();
      const mark = (style, words) => element("span", legend, "key " + style, words);
      if (state.layer < 0) return ["left", "right", "mid"].forEach((side) => mark(side, side === "mid" ? "middle" : side));
      const { top, signed } = data.layers[state.layer];
      const bar = (colour, words) => {
        const span = element("span", legend, "");
        element("i", span, "bar").style.background = `linear-gradient(90deg, transparent, var(${colour}))`;
        span.append(words);
      };
      bar("--second", signed ? `speaks for it, full at ${top}` : `0 to ${top}`);
      if (signed) bar("--accent", `speaks against it, full at −${top}`);
    };
    const show = (frame) => {
      state.frame = Math.max(0, Math.min(F - 1, frame));
      seek.value = state.frame;
      const number = state.frame * data.every;
      const words = `frame ${number + 1} / ${data.total}`;
      clock.value = data.known ? `${(number * data.ms / data.every / 1000).toFixed(2)} s · ${words}` : words;
      drawBody();
      for (const draw of [...panels, ...views]) draw();
    };
    const again = () => { ink = colours(); explain(); show(state.frame); };
    const step = (now) => {
      if (!state.moving) return;
      const wait = data.ms / Number(find(".speed").value);
      if (now - state.time >= wait) {
        const ahead = state.time ? Math.min(4, Math.floor((now - state.time) / wait)) : 0;
        state.time = now;
        if (ahead) show((state.frame + ahead) % F);
      }
      requestAnimationFrame(step);
    };
    const tell = () => { run.textContent = state.moving ? "Pause" : "Play"; };
    const stop = () => { state.moving = false; tell(); };
    run.addEventListener("click", () => {
      state.moving = !state.moving;
      state.time = 0;
      tell();
      requestAnimationFrame(step);
    });
    seek.addEventListener("input", () => { stop(); show(Number(seek.value)); });
    if (picker) picker.addEventListener("change", () => { state.layer = Number(picker.value); again(); });
    if (!data.flat) {
      body.classList.add("turns");
      body.addEventListener("pointerdown", (event) => body.setPointerCapture(event.pointerId));
      body.addEventListener("pointermove", (event) => {
        if (!event.buttons) return;
        state.yaw += event.movementX / 120;
        state.pitch = Math.max(-1.5, Math.min(1.5, state.pitch + event.movementY / 160));
        drawBody();
        if (!state.moving) panels[0]();
      });
      find(".front").addEventListener("click", () => { state.yaw = 0; state.pitch = 0.12; show(state.frame); });
    }
    dark.addEventListener("change", again);
    new ResizeObserver(again).observe(root);
    tell();
    again();
    requestAnimationFrame(step);
    root.dataset.ready = "yes";
  };
  document.querySelectorAll(".scene").forEach(begin);
})();
