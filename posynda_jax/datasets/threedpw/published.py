"""The sequences of the published 3DPW by split, each with (actors, frames).

The numbers are those of public evaluation code. Their sums agree with the paper (60 sequences, more than 51,000 frames)
and with the 34 and 37 actor tracks that other work counts in train and test.
"""

SEQUENCES = {
    "train": {
        "courtyard_arguing_00": (2, 765), "courtyard_backpack_00": (1, 1262), "courtyard_basketball_00": (2, 468),
        "courtyard_bodyScannerMotions_00": (1, 1257), "courtyard_box_00": (1, 1041), "courtyard_capoeira_00": (2, 435),
        "courtyard_captureSelfies_00": (2, 750), "courtyard_dancing_01": (2, 351),
        "courtyard_giveDirections_00": (2, 848), "courtyard_golf_00": (1, 604), "courtyard_goodNews_00": (2, 431),
        "courtyard_jacket_00": (1, 1245), "courtyard_laceShoe_00": (1, 931), "courtyard_rangeOfMotions_00": (2, 601),
        "courtyard_relaxOnBench_00": (1, 558), "courtyard_relaxOnBench_01": (1, 959),
        "courtyard_shakeHands_00": (2, 391), "courtyard_warmWelcome_00": (2, 599), "outdoors_climbing_00": (1, 1228),
        "outdoors_climbing_01": (1, 1062), "outdoors_climbing_02": (1, 916), "outdoors_freestyle_00": (1, 498),
        "outdoors_slalom_00": (1, 333), "outdoors_slalom_01": (1, 371),
    },
    "validation": {
        "courtyard_basketball_01": (1, 958), "courtyard_dancing_00": (2, 459), "courtyard_drinking_00": (2, 689),
        "courtyard_hug_00": (2, 614), "courtyard_jumpBench_01": (1, 619), "courtyard_rangeOfMotions_01": (2, 587),
        "downtown_walkDownhill_00": (1, 437), "outdoors_crosscountry_00": (1, 544), "outdoors_freestyle_01": (1, 273),
        "outdoors_golf_00": (1, 341), "outdoors_parcours_00": (1, 1661), "outdoors_parcours_01": (1, 1327),
    },
    "test": {
        "downtown_arguing_00": (2, 898), "downtown_bar_00": (2, 1403), "downtown_bus_00": (2, 2178),
        "downtown_cafe_00": (2, 1201), "downtown_car_00": (2, 1020), "downtown_crossStreets_00": (2, 588),
        "downtown_downstairs_00": (1, 857), "downtown_enterShop_00": (1, 1449), "downtown_rampAndStairs_00": (2, 984),
        "downtown_runForBus_00": (2, 731), "downtown_runForBus_01": (2, 783), "downtown_sitOnStairs_00": (2, 1337),
        "downtown_stairs_00": (1, 1240), "downtown_upstairs_00": (1, 845), "downtown_walkBridge_01": (1, 1372),
        "downtown_walkUphill_00": (1, 388), "downtown_walking_00": (2, 1387), "downtown_warmWelcome_00": (2, 589),
        "downtown_weeklyMarket_00": (1, 1193), "downtown_windowShopping_00": (1, 1948), "flat_guitar_01": (1, 748),
        "flat_packBags_00": (1, 1279), "office_phoneCall_00": (2, 880), "outdoors_fencing_01": (1, 942),
    },
}  # fmt: skip
