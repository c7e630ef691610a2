"use strict";
(() => {
  const root = document.getElementById("code-map");
  const data = JSON.parse(root.querySelector("script").textContent);
  const stage = root.querySelector(".stage"), canvas = stage.querySelector("canvas"), draw2d = canvas.getContext("2d");
  const card = root.querySelector(".card"), portrait = card.querySelector("canvas"), words = card.querySelector("p");
  const sprites = root.querySelector(".sprites"), count = data.ids.length;
  const [tileWidth, tileHeight] = data.tile, longest = Math.max(tileWidth, tileHeight);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const hidden = new Set(), view = { scale: 1, x: 0, y: 0 };
  let points = data.maps[Object.keys(data.maps).pop()].slice(), marks = "dots", chosen = -1, width = 0, height = 0;

  const visible = (i) => !hidden.has(data.group[i]);
  const place = (i) => {
    const side = Math.min(width, height) - 48;
    const x = (points[2 * i] / 1000 - 0.5) * side * Math.max(1, Math.min(1.6, width / height));
    const y = (0.5 - points[2 * i + 1] / 1000) * side;
    return [width / 2 + (x + view.x) * view.scale, height / 2 + (y + view.y) * view.scale];
  };

  const mark = (x, y, radius, shape) => {
    draw2d.beginPath();
    if (shape === 1) draw2d.rect(x - radius, y - radius, 2 * radius, 2 * radius);
    else if (shape === 2) {
      draw2d.moveTo(x, y - 1.3 * radius);
      draw2d.lineTo(x + 1.2 * radius, y + radius);
      draw2d.lineTo(x - 1.2 * radius, y + radius);
      draw2d.closePath();
    } else draw2d.arc(x, y, radius, 0, 2 * Math.PI);
  };

  const tile = (target, i, x, y, size) => {
    const factor = size / longest, w = tileWidth * factor, h = tileHeight * factor;
    target.imageSmoothingEnabled = longest > 64;
    target.drawImage(sprites, (i % data.columns) * tileWidth, Math.floor(i / data.columns) * tileHeight,
      tileWidth, tileHeight, x - w / 2, y - h / 2, w, h);
  };

  const draw = () => {
    const ratio = devicePixelRatio || 1, ink = getComputedStyle(root).color;
    width = canvas.clientWidth;
    height = canvas.clientHeight;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    draw2d.setTransform(ratio, 0, 0, ratio, 0, 0);
    const zoom = Math.sqrt(view.scale), radius = (count > 800 ? 3.2 : 4.6) * Math.min(2, zoom);
    const size = Math.max(14, Math.min(30, 420 / Math.sqrt(count))) * zoom;
    for (let i = 0; i < count; i++) {
      if (!visible(i)) continue;
      const group = data.group[i], [x, y] = place(i);
      const colour = group < 0 ? "#8a8f94" : data.colours[group % data.colours.length];
      if (marks === "images" && sprites.complete) {
        tile(draw2d, i, x, y, size);
        draw2d.strokeStyle = colour;
        draw2d.lineWidth = 1.5;
        draw2d.strokeRect(x - size / 2, y - size / 2, size, size);
      } else {
        mark(x, y, radius, Math.max(0, group) % 3);
        draw2d.globalAlpha = 0.85;
        draw2d.fillStyle = colour;
        draw2d.fill();
        draw2d.globalAlpha = 1;
      }
      if (data.wrong[i] || i === chosen) {
        mark(x, y, (marks === "images" ? 0.72 * size : radius + 2.6), 0);
        draw2d.strokeStyle = ink;
        draw2d.lineWidth = i === chosen ? 2.4 : 1.2;
        draw2d.stroke();
      }
    }
  };

  const describe = (i) => {
    const lines = [data.ids[i]];
    if (data.truth[i]) lines.push("class: " + data.truth[i]);
    if (data.predicted[i]) lines.push((data.wrong[i] ? "wrongly named: " : "named: ") + data.predicted[i]);
    words.textContent = lines.join("\n");
    const target = portrait.getContext("2d");
    target.clearRect(0, 0, 112, 112);
    if (sprites.complete) tile(target, i, 56, 56, 112);
  };

  const choose = (x, y) => {
    let best = -1, nearest = marks === "images" ? 22 : 16;
    for (let i = 0; i < count; i++) {
      if (!visible(i)) continue;
      const [px, py] = place(i), distance = Math.hypot(px - x, py - y);
      if (distance < nearest) [best, nearest] = [i, distance];
    }
    if (best !== chosen) {
      chosen = best;
      card.hidden = best < 0;
      if (best >= 0) describe(best);
      draw();
    }
    if (best >= 0) {
      const [px, py] = place(best);
      card.style.left = Math.max(6, Math.min(width - card.offsetWidth - 6, px + 14)) + "px";
      card.style.top = Math.max(6, py + 14 + card.offsetHeight > height ? py - card.offsetHeight - 14 : py + 14) + "px";
    }
  };

  const zoom = (factor, x = width / 2, y = height / 2) => {
    const scale = Math.max(1, Math.min(24, view.scale * factor));
    for (const [axis, at, middle] of [["x", x, width / 2], ["y", y, height / 2]])
      view[axis] = scale === 1 ? 0 : view[axis] + (at - middle) * (1 / scale - 1 / view.scale);
    view.scale = scale;
    stage.classList.toggle("zoomed", scale > 1);
    choose(-999, -999);
    draw();
  };

  const glide = (target) => {
    const from = points.slice(), start = performance.now();
    const step = (now) => {
      const t = calm ? 1 : Math.min(1, (now - start) / 700), ease = t * t * (3 - 2 * t);
      points = from.map((value, k) => value + ease * (target[k] - value));
      draw();
      if (t < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  };

  const press = (button) => {
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
  };
  root.querySelector("[data-switch=map]").addEventListener("click", ({ target }) => {
    if (!target.value) return;
    press(target);
    choose(-999, -999);
    glide(data.maps[target.value]);
  });
  root.querySelector("[data-switch=marks]").addEventListener("click", ({ target }) => {
    if (!target.value) return;
    press(target);
    marks = target.value;
    draw();
  });
  root.querySelector("[data-zoom]").addEventListener("click", ({ target }) => {
    if (target.value) zoom({ in: 1.6, out: 1 / 1.6, whole: 0 }[target.value]);
  });
  for (const button of root.querySelectorAll(".legend button"))
    button.addEventListener("click", () => {
      const group = Number(button.dataset.group), shown = hidden.has(group);
      shown ? hidden.delete(group) : hidden.add(group);
      button.setAttribute("aria-pressed", String(shown));
      choose(-999, -999);
      draw();
    });

  let grip = null;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    grip = view.scale > 1 ? at(event) : null;
    if (grip) canvas.setPointerCapture(event.pointerId);
    choose(...at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event);
    if (!grip) return choose(...now);
    view.x += (now[0] - grip[0]) / view.scale;
    view.y += (now[1] - grip[1]) / view.scale;
    grip = now;
    choose(-999, -999);
    draw();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (grip = null));
  canvas.addEventListener("pointerleave", () => choose(-999, -999));
  canvas.addEventListener("dblclick", (event) => zoom(2, ...at(event)));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && view.scale === 1) return;  // an unzoomed map lets the page scroll
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), ...at(event));
  }, { passive: false });

  sprites.addEventListener("load", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(draw).observe(stage);
})();
