// Renders each picture of a folder as sharp shows it: RGBA in sRGB, 8 bits, in NAME.rgba and its size in NAME.json.
import { readdirSync, writeFileSync } from "node:fs";
import sharp from "sharp";

for (const name of readdirSync(process.argv[2])) {
  const path = `${process.argv[2]}/${name}`;
  const picture = sharp(path, { failOn: "none" }).autoOrient().toColourspace("srgb").ensureAlpha();
  const { data, info } = await picture.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
  writeFileSync(`${process.argv[3]}/${name}.rgba`, data);
  writeFileSync(`${process.argv[3]}/${name}.json`, JSON.stringify([info.height, info.width, info.channels]));
}
