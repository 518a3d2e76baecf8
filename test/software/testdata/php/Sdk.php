<?php
namespace Aws;

/**
 * Builds AWS clients based on configuration settings.
 */
class Sdk
{
    const VERSION = '@VERSION@';

    /** @var array Arguments for creating clients */
    private $args;
}
