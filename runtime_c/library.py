# ruff: noqa: F821
"""PlatformIO runs this for library.json: which kernels does the chip of this build have?"""

Import("env")

sources = ["+<*.c>", "+<kernels/select.c>", "+<kernels/ref/*.c>"]
chip = env.BoardConfig().get("build.mcu", "") if "BOARD" in env else ""
if chip == "esp32s3":
    env.Append(CPPDEFINES=["TLM_TARGET_ESP32S3"])
    sources += ["+<kernels/esp32s3/*.c>", "+<kernels/esp32s3/*.S>"]
env.Replace(SRC_FILTER=sources)
