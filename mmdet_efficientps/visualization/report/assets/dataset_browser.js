// What the network sees of a data set: gallery alone.

head();
page.append(el('div', { class: 'tiles' }, data.totals.map(({ name, value }) => (
  el('div', { class: 'tile' }, el('div', { class: 'name' }, name), el('div', { class: 'value' }, value))))));
// The pictures come after this script.
document.addEventListener('DOMContentLoaded', () => {
  new Gallery(section('gallery', 'Images',
    'Drag the slider, or use its arrow keys, to go from the image to its targets. Click a picture to enlarge it.'));
});
