/* ESP32-S3 devkit: the chip and a serial line, nothing more. */
#include "s3.h"

void app_main(void);
void app_main(void)
{
    const s3_extras extras = {.name = "esp32s3_devkit"};
    s3_start(&extras);
}
