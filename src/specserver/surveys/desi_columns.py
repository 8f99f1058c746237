"""Columns of the catalogues of DESI spectra: of coadds, and of exposures."""

from ..model.survey import Column

ID = Column("targetid", "<i8", "", "target; negative: a fibre without one")
_PLACE = (
    Column("survey", "U", "", "main, sv1, sv2, sv3, cmx, special; unknown"),
    Column("program", "U", "", "dark, bright, backup, other; unknown"),
    Column("healpix", "<i4", "", "nested pixel of the file, nside 64; -1: a file of a tile"),
    Column("tileid", "<i4", "", "tile; -1: of several tiles"),
)
_COADD = Column("coadd", "U", "", "what was coadded: survey-program-healpix, or tile-group-value")
_OBJECT = (
    Column("ra", "<f8", "deg", "right ascension of the target, ICRS"),
    Column("dec", "<f8", "deg", "declination of the target, ICRS"),
    Column("z", "<f8", "", "best-fit redshift"),
    Column("zerr", "<f8", "", "error of z"),
    Column("zwarn", "<i8", "", "ZWARN bits; 0 is good"),
    Column("spectype", "U", "", "class: GALAXY, QSO or STAR"),
    Column("subtype", "U", "", "subtype of stars and quasars"),
    Column("deltachi2", "<f8", "", "difference of χ² to the second best fit"),
    Column("objtype", "U", "", "TGT, SKY, BAD, or blank: no target"),
    *(
        Column(f"{program}_target", "<i8", "", "targeting bits")
        for program in ("desi", "bgs", "mws")
    ),
    Column("scnd_target", "<i8", "", "targeting bits of secondary programmes"),
    Column("tsnr2_lrg", "<f4", "", "squared signal to noise of the template of red galaxies"),
)
COADD_COLUMNS = (
    ID,
    *_PLACE,
    _COADD,
    Column("lastnight", "<i4", "", "last night of a tile's exposures, YYYYMMDD"),
    *_OBJECT,
    Column("coadd_fiberstatus", "<i4", "", "FIBERSTATUS bits of all exposures; 0 is good"),
    Column("coadd_exptime", "<f4", "s", "exposure time summed"),
    Column("zcat_primary", "u1", "", "1: best spectrum of the target"),
)
EXPOSURE_COLUMNS = (
    ID,
    Column("expid", "<i4", "", "exposure"),
    Column("night", "<i4", "", "night of the exposure, YYYYMMDD"),
    Column("mjd", "<f8", "d", "modified Julian date of the exposure"),
    Column("exptime", "<f8", "s", "exposure time"),
    *_PLACE,
    *_OBJECT,
    Column("fiberstatus", "<i4", "", "FIBERSTATUS bits; 0 is good"),
    Column("exp_primary", "u1", "", "1: best exposure of the target"),
)
