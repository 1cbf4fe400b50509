#pragma once
#define SPI_MEM_CTRL_REG(i) (0x60003008u - (i) * 0x1000u)
#define SPI_MEM_FREAD_QIO (1u << 24)
#define SPI_MEM_FREAD_DIO (1u << 23)
#define SPI_MEM_FREAD_QUAD (1u << 20)
#define SPI_MEM_FREAD_DUAL (1u << 14)
#define SPI_MEM_CLOCK_REG(i) (0x60003014u - (i) * 0x1000u)
#define SPI_MEM_CLK_EQU_SYSCLK (1u << 31)
#define SPI_MEM_CLKCNT_N_V 0xFFu
#define SPI_MEM_CLKCNT_N_S 16
#define SPI_MEM_DDR_REG(i) (0x600030E0u - (i) * 0x1000u)
#define SPI_MEM_SPI_FMEM_DDR_EN (1u << 0)
#define SPI_MEM_CORE_CLK_SEL_REG(i) (0x600030ECu - (i) * 0x1000u)
#define SPI_MEM_CORE_CLK_SEL_V 0x3u
#define SPI_MEM_CORE_CLK_SEL_S 0
